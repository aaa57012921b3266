"""Elements put at positions that are data, which lie as those of a gather do: see there."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.plain import Ints, Plain, pointers, without
from codegen.program import Parameter, sizes


class Scatter(Plain):
    """What scatters share.

    reduction  none: what comes last stays; add, mul, max, min: combined with what is there
    is_bool    elements are true or false
    """

    ctype: str
    index: str
    reduction: str = "none"
    is_bool: bool = False

    def combined(self, y: str, x: str) -> str:
        """What an element y becomes by an update x."""
        kind = self.ctype
        if self.reduction == "none":
            return x
        if self.is_bool:
            return f"{y} {'|' if self.reduction in ('add', 'max') else '&'} {x}"
        a, b = self.load(kind, y), self.load(kind, x)
        if self.reduction in ("max", "min"):
            sign = ">" if self.reduction == "max" else "<"
            nan = f" || {b} != {b}" if self.is_float(kind) else ""
            return f"{b} {sign} {a}{nan} ? {x} : {y}"
        sign = "+" if self.reduction == "add" else "*"
        if self.is_float(kind):
            return self.store(kind, f"{a} {sign} {b}")
        wide = "uint64_t" if "64" in kind else "uint32_t"
        return f"({kind})(({wide}){y} {sign} ({wide}){x})"


class ScatterElements(Scatter):
    """y[i, indices[i, j, ...], ...] = updates[i, j, ...], the index on `axis`; updates have the sizes `shape`.

    length, strides  of y along that axis, and along all axes
    """

    template = "neon/scatter_elements.c.j2"
    axis: int
    length: int
    shape: Ints
    strides: Ints

    @property
    def name(self) -> str:
        return self.named("scatter_elements", *self.shape)

    @property
    def others(self) -> Ints:
        """The strides, 0 for the axis of the index."""
        return without(self.strides, self.axis)

    @property
    def parameters(self) -> Sequence[Parameter]:
        return pointers([(self.index, "indices"), (self.ctype, "updates")], [(self.ctype, "y")])


class ScatterPositions(Scatter):
    """Rows of updates [count, row] put into y [*lengths, row] at positions [count, len(lengths)]."""

    template = "neon/scatter_positions.c.j2"
    lengths: Ints

    @property
    def name(self) -> str:
        return self.named("scatter_positions", *self.lengths)

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = pointers([(self.index, "positions"), (self.ctype, "updates")], [(self.ctype, "y")])
        return [*given, *sizes("count", "row")]

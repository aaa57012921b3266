"""Windows and taps of images, one result at a time: pools of any number of axes, and resampling along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from codegen.neon.plain import Ints, Plain, pointers
from codegen.program import Parameter, sizes


class PlainPool(Plain):
    """A pool over windows of x [n, c, ...].

    kind           max, average or lp (the p-norm)
    x, y           sizes and strides, in logical order
    indices        where the largest element is is written too: counted over the whole of x, in logical order, or
                   with the spatial axes column by column (`by_columns`)
    counts_pads    an average is over all of the window that lies within the padding, not only within x
    """

    template = "neon/plain_pool.c.j2"
    ctype: str
    kind: str
    x: tuple[Ints, Ints]
    y: tuple[Ints, Ints]
    kernel: Ints
    strides: Ints
    pads: Ints
    dilations: Ints
    p: int = 2
    counts_pads: bool = False
    indices: bool = False
    by_columns: bool = False

    @property
    def name(self) -> str:
        return self.named(f"plain_{self.kind}_pool_{'x'.join(map(str, self.kernel))}", *self.x[0])

    @property
    def parameters(self) -> Sequence[Parameter]:
        found = [("int64_t", "places")] * self.indices
        return pointers([(self.ctype, "x")], [(self.ctype, "y"), *found])

    @property
    def axes(self) -> range:
        """The spatial axes."""
        return range(len(self.kernel))

    @property
    def spatial(self) -> str:
        """Where an element lies in its channel."""
        return self.offset((0, 0, *self.x[1][2:]), "x")

    def math(self, function: str) -> str:
        """A function of math.h for the type to compute in."""
        return function if self.ctype == "double" else f"{function}f"

    @property
    def place_steps(self) -> Ints:
        """How far apart the indices of neighbours are along each axis of x."""
        spatial = self.x[0][2:]
        inside = [prod(spatial[:i] if self.by_columns else spatial[i + 1 :]) for i in self.axes]
        return (prod(self.x[0][1:]), prod(spatial), *inside)


class ResizeAxis(Plain):
    """y[o, i, :] = the sum of x[o, places[i, t], :] * weights[i, t] for x [outer, length, inner].

    ctype   of the elements of x; `result` of those of y
    wide    type to compute in, and of the weights
    """

    template = "neon/resize_axis.c.j2"
    ctype: str
    result: str
    wide: str

    @property
    def name(self) -> str:
        kinds = dict.fromkeys(c.removesuffix("_t") for c in (self.ctype, self.wide, self.result))
        return f"resize_axis_{'_to_'.join(kinds)}"

    @property
    def stored(self) -> str:
        """A sum as an element of the result; whole numbers are cut towards zero."""
        if self.is_float(self.result):
            return self.store(self.result, f"({self.wide_result})sum" if self.wide != self.wide_result else "sum")
        return f"({self.result}){'real_to_uint64' if self.result == 'uint64_t' else 'real_to_int64'}(sum)"

    @property
    def wide_result(self) -> str:
        """What the result is computed in by others."""
        return self.computed(self.result)

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = pointers([(self.ctype, "x"), ("int32_t", "places"), (self.wide, "weights")], [(self.result, "y")])
        return [*given, *sizes("outer", "length", "inner", "count", "taps")]

"""Pad by slices and constants next to each other, for accelerators that have no such padding."""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.parts import Concat, Pad
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of

FEW = 4  # elements on one side up to which they are taken one by one, and not by a slice in reverse


class SubstitutePad(RewritePass):
    """Padding of the modes in `modes`: mirrored elements are slices, and what surrounds with a number is a constant,
    where the number is not 0."""

    error_class = ErrorClass.EXACT
    modes: tuple[str, ...] = ("constant", "reflect")

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Pad, self._parts),)

    def _parts(self, add: Layers, op: Pad, x: Value, fill: Value | None = None) -> Value | None:
        rank = x.type.rank
        widths = list(zip(op.pads[:rank], op.pads[rank:], strict=True))
        if op.mode not in self.modes or fill is not None or not any(op.pads):
            return None
        if op.mode == "constant":
            if op.value == 0:
                return None
        elif op.mode != "reflect" or any(max(w) >= d for w, d in zip(widths, x.type.dims, strict=True)):
            return None
        for axis, (before, after) in enumerate(widths):
            sides = _mirrored if op.mode == "reflect" else _filled
            front, back = sides(add, op, x, axis, before, True), sides(add, op, x, axis, after, False)
            if front or back:
                x = add(Concat(axis=axis), *front, x, *back)
        return x


def _filled(add: Layers, op: Pad, x: Value, axis: int, count: int, first: bool) -> list[Value]:
    assert not isinstance(op.value, str)
    shape = [count if i == axis else d for i, d in enumerate(x.type.dims)]
    return [add.expand(add.const(op.value, x.type.dtype), shape)] if count else []


def _mirrored(add: Layers, op: Pad, x: Value, axis: int, count: int, first: bool) -> list[Value]:
    start = count if first else x.type.dims[axis] - 2
    if count > FEW:
        return [add.cut(x, axis, start, start - count, -1)]
    return [add.cut(x, axis, i, i + 1) for i in range(start, start - count, -1)]

"""Compute a max pool of a wide window by pools of narrower ones, one after the other, where windows are limited."""

from __future__ import annotations

from math import gcd

from compiler.graph import Value
from compiler.ops.pool import MaxPool
from compiler.ops.reduce import ReduceMax
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


class SubstituteLargeMaxPool(RewritePass):
    """Pools of windows of more than `most` elements along the last axis become a maximum of the image, where the window
    is all of it, or a cascade: windows of a and b elements see what one of a + b - 1 sees; where the strides are
    multiples of a, what one of a * b sees."""

    error_class = ErrorClass.EXACT
    adds_work = True  # elements that the original compared once are compared by several pools
    most: int = 8

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(MaxPool, self._parts),)

    def _parts(self, add: Layers, op: MaxPool, x: Value) -> Value | None:
        n, kernel, stride, begin = len(op.kernel), op.kernel[-1], op.strides[-1], op.pads[len(op.kernel) - 1]
        if op.indices or set(op.dilations) > {1} or kernel <= self.most:
            return None
        if op.kernel == x.type.dims[2:] and not any(op.pads):
            return add(ReduceMax(axes=tuple(range(2, n + 2))), x)

        steps = add.node.outputs[0].type.dims[-1] - 1
        while kernel > self.most:
            reach = steps * stride + kernel - begin
            x = add.cut(x, n + 1, 0, min(reach, x.type.dims[-1]))
            after, common = reach - x.type.dims[-1], gcd(kernel, stride, begin)
            block = max(d for d in range(1, self.most + 1) if common % d == 0)
            if block > 1:
                x = _pooled(add, x, block, block, (0, -x.type.dims[-1] % block))
                kernel, stride, begin = (v // block for v in (kernel, stride, begin))
            else:
                before = min(begin, self.most - 1)
                x = _pooled(add, x, self.most, 1, (before, min(after, self.most - 1)))
                kernel, begin = kernel - self.most + 1, begin - before
        reach = steps * stride + kernel - begin
        x = add.cut(x, n + 1, 0, min(reach, x.type.dims[-1]))
        pads = (*op.pads[: n - 1], begin, *op.pads[n:-1], reach - x.type.dims[-1])
        rest = op.with_(kernel=(*op.kernel[:-1], kernel), strides=(*op.strides[:-1], stride), pads=pads)
        return add(rest, x)


def _pooled(add: Layers, x: Value, size: int, step: int, pads: tuple[int, int]) -> Value:
    """Along the last axis."""
    one = (1,) * (x.type.rank - 3)
    before, after = ((*(0 for _ in one), p) for p in pads)
    return add(MaxPool(kernel=(*one, size), strides=(*one, step), pads=before + after, dilations=(*one, 1)), x)

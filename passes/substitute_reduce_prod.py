"""Multiply along axes by halves, for accelerators that have no product of all elements."""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.elementwise import Mul
from compiler.ops.reduce import Reduce, ReduceProd
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: Reduce, x: Value) -> Value:
    """The first half of an axis times the second, until one element is left; odd ones are multiplied at the end."""
    for axis in op.axes:
        odd: list[Value] = []
        while (length := x.type.dims[axis]) > 1:
            half = length // 2
            if length % 2:
                odd.append(add.cut(x, axis, length - 1, length))
            x = add(Mul(), add.cut(x, axis, 0, half), add.cut(x, axis, half, 2 * half))
        for factor in odd:
            x = add(Mul(), x, factor)
    return add.reshape(x, add.node.output.type.dims)


class SubstituteReduceProd(RewritePass):
    """Products of floats along axes become products of halves: as many layers as the length has binary digits."""

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(ReduceProd, parts),)

"""Compute sums along axes as means times the number of elements, for accelerators that only have means.

In integers the product only renames the scale."""

from __future__ import annotations

from math import prod

from compiler.graph import Value
from compiler.ops.elementwise import Mul
from compiler.ops.reduce import Reduce, ReduceMean, ReduceSum
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: Reduce, x: Value) -> Value:
    """The mean, times the number of elements."""
    count = prod(x.type.dims[a] for a in op.axes)
    return add(Mul(), add(ReduceMean(axes=op.axes, keepdims=op.keepdims), x), float(count))


class SubstituteReduceSum(RewritePass):
    """Sums of floats along axes become means and a product."""

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(ReduceSum, parts),)

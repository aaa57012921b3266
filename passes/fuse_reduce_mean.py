"""Fuse a sum and its division by the number of terms into a mean.

sum(x) / n = mean(x). A mean is accumulated in 32 bits and rounded once, where a sum stored in fp16 overflows beyond
65504 (layer norms as JAX exports them).
"""

from __future__ import annotations

from math import prod

from compiler.graph import Value
from compiler.ops.elementwise import Div, Mul
from compiler.ops.reduce import ReduceMean, ReduceSum
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import near, number, scalar

X, FACTOR = Wild(lambda v: v.type.dtype.is_float and v.type.is_static), scalar()
TOTAL = Layer(ReduceSum, X)
SCALED = Layer(Mul, TOTAL, FACTOR)
DIVIDED = Layer(Div, TOTAL, FACTOR)


def mean(m: Match, g: Builder) -> Value | None:
    """The mean over the axes of the sum, if the factor is the reciprocal of their size."""
    x, op, total = m.value(X), m.op(TOTAL), m.value(TOTAL)
    count = prod(x.type.dims[a] for a in op.axes)
    factor = number(m[FACTOR])
    divides = isinstance(m.root.op, Div)
    if not count or not near(factor, count if divides else 1 / count, x) or m.root.output.type != total.type:
        return None
    return g.add(ReduceMean(axes=op.axes, keepdims=op.keepdims), x)


class FuseReduceMean(RewritePass):
    """`reduce_sum` followed by the division by its number of terms becomes `reduce_mean`."""

    def rules(self) -> tuple[Rule, ...]:
        return Rule(SCALED, mean), Rule(DIVIDED, mean)

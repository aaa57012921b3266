"""Fuse the layers of a softmax into one.

softmax(x) = exp(x) / sum(exp(x)) = exp(x - m) / sum(exp(x - m)) for any m that is constant along the axis; exporters
write the form with the maximum, which cannot overflow, and the one without.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.elementwise import Div, Exp, Mul, Reciprocal, Sub
from compiler.ops.reduce import ReduceMax, ReduceSum
from compiler.ops.softmax import Softmax
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, OneOf, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import spread, stands

X = Wild()
TOP = Layer(ReduceMax, X, shared=True)
SPREAD_TOP = spread(TOP)
EXP = Layer(Exp, OneOf(Layer(Sub, X, SPREAD_TOP), X))
TOTAL = Layer(ReduceSum, EXP)
SPREAD_TOTAL = spread(TOTAL)
QUOTIENT = Layer(Div, EXP, SPREAD_TOTAL)
PRODUCT = Layer(Mul, EXP, Layer(Reciprocal, SPREAD_TOTAL))


def softmax(m: Match, g: Builder) -> Value | None:
    """The softmax along the axis of the sum, which must be that of the maximum."""
    axes = m.op(TOTAL).axes
    if len(axes) != 1 or not stands(m.value(SPREAD_TOTAL), m.value(X), axes[0]):
        return None
    if TOP in m and (m.op(TOP).axes != axes or not stands(m.value(SPREAD_TOP), m.value(X), axes[0])):
        return None
    return g.add(Softmax(axis=axes[0]), m.value(X))


class FuseSoftmax(RewritePass):
    """Exponential, sum and quotient become one `softmax`.

    `adds_work`: the multiplications of a softmax are counted, those of the separate layers are not.
    """

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return tuple(Rule(find, softmax) for find in (QUOTIENT, PRODUCT))

"""Fuse the logarithm of a softmax into one layer.

log_softmax(x) = log(softmax(x)) = x - log(sum(exp(x))) = (x - m) - log(sum(exp(x - m))) for any m that is constant
along the axis.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.elementwise import Exp, Log, Sub
from compiler.ops.reduce import ReduceLogSumExp, ReduceMax, ReduceSum
from compiler.ops.softmax import LogSoftmax, Softmax
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, OneOf, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import along_one_axis

X = Wild()
SOFTMAX = Layer(Softmax, X)
LOGARITHM = Layer(Log, SOFTMAX)
TOP = Layer(ReduceMax, X, where=along_one_axis, shared=True)
SHIFTED = OneOf(Layer(Sub, X, TOP), X)
TOTAL = Layer(ReduceSum, Layer(Exp, SHIFTED), where=along_one_axis)
LOG_SUM_EXP = Layer(ReduceLogSumExp, X, where=along_one_axis)
DIFFERENCE, STABLE = Layer(Sub, X, LOG_SUM_EXP), Layer(Sub, SHIFTED, Layer(Log, TOTAL))


def logarithm(m: Match, g: Builder) -> Value:
    """log(softmax(x))."""
    return g.add(LogSoftmax(axis=m.op(SOFTMAX).axis), m.value(X))


def difference(m: Match, g: Builder) -> Value:
    """x - log_sum_exp(x)."""
    return g.add(LogSoftmax(axis=m.op(LOG_SUM_EXP).axes[0]), m.value(X))


def stable(m: Match, g: Builder) -> Value | None:
    """The difference along the axis of the sum, which must be that of the maximum."""
    axes = m.op(TOTAL).axes
    if TOP in m and m.op(TOP).axes != axes:
        return None
    return g.add(LogSoftmax(axis=axes[0]), m.value(X))


class FuseLogSoftmax(RewritePass):
    """A softmax and its logarithm, or a difference from log(sum(exp(x))), become one `log_softmax`.

    `adds_work`: the multiplications of a log_softmax are counted, those of the separate layers are not.
    """

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return Rule(LOGARITHM, logarithm), Rule(DIFFERENCE, difference), Rule(STABLE, stable)

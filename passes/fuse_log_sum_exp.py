"""Fuse log(sum(exp(x))) into one reduction.

log(sum(exp(x))) = m + log(sum(exp(x - m))) for any m that is constant along the axes; with m the maximum it cannot
overflow, which is how the fused layer computes it.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.elementwise import Add, Exp, Log, Sub
from compiler.ops.reduce import ReduceLogSumExp, ReduceMax, ReduceSum
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule

X = Wild()
TOTAL = Layer(ReduceSum, Layer(Exp, X))
PLAIN = Layer(Log, TOTAL)
TOP = Layer(ReduceMax, X, where=lambda op: op.keepdims, shared=True)
STABLE_TOTAL = Layer(ReduceSum, Layer(Exp, Layer(Sub, X, TOP)), where=lambda op: op.keepdims)
STABLE = Layer(Add, TOP, Layer(Log, STABLE_TOTAL))


def plain(m: Match, g: Builder) -> Value:
    """log(sum(exp(x)))."""
    total = m.op(TOTAL)
    return g.add(ReduceLogSumExp(axes=total.axes, keepdims=total.keepdims), m.value(X))


def stable(m: Match, g: Builder) -> Value | None:
    """max(x) + log(sum(exp(x - max(x))))."""
    axes = m.op(STABLE_TOTAL).axes
    return g.add(ReduceLogSumExp(axes=axes), m.value(X)) if m.op(TOP).axes == axes else None


class FuseLogSumExp(RewritePass):
    """Exponential, sum and logarithm become one `reduce_log_sum_exp`."""

    def rules(self) -> tuple[Rule, ...]:
        return Rule(STABLE, stable), Rule(PLAIN, plain)

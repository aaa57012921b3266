"""Write comparisons with constants as the clip or the relu that they are.

max(x, 0) = relu(x); max(x, a) = clip(x, a, inf); min(x, b) = clip(x, -inf, b); clip(x, 0, inf) = relu(x);
where(x < 0, 0, x) = relu(x). NaN stays NaN, so where(x > 0, x, 0), which makes it 0, is left alone. The two clips of
min(max(x, a), b) are merged by `merge-clips`.
"""

from __future__ import annotations

from math import inf, isnan

from compiler.graph import Value
from compiler.ops.activation import Clip, Relu
from compiler.ops.elementwise import Greater, GreaterOrEqual, Less, LessOrEqual, Max, Min, Where
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Const, Layer, Match, OneOf, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import number, scalar

X, BOUND, ZERO = Wild(), scalar(), Const(equal=0)
AT_LEAST, AT_MOST = Layer(Max, X, BOUND), Layer(Min, X, BOUND)
NEGATIVE = OneOf(Layer((Less, LessOrEqual), X, Const(equal=0)), Layer((Greater, GreaterOrEqual), Const(equal=0), X))
CHOSEN = Layer(Where, NEGATIVE, ZERO, X)
CLIPPED = Layer(Clip, X, where=lambda op: op.low == 0 and op.high == inf)


def clip(m: Match, g: Builder, low: float, high: float) -> Value | None:
    """x clipped; a relu or x itself where that is what it is; nothing for integers or where the result is broadcast."""
    x = m.value(X)
    if x.type != m.root.output.type or not x.type.dtype.is_float or isnan(low) or isnan(high):
        return None
    if (low, high) == (-inf, inf):
        return x
    return g.add(Relu() if (low, high) == (0, inf) else Clip(low=low, high=high), x)


class FuseRelu(RewritePass):
    """Comparisons and choices become `relu` or `clip`."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return (
            Rule(AT_LEAST, lambda m, g: clip(m, g, number(m[BOUND]), inf), "max"),
            Rule(AT_MOST, lambda m, g: clip(m, g, -inf, number(m[BOUND])), "min"),
            Rule(CHOSEN, lambda m, g: clip(m, g, 0.0, inf), "where"),
            Rule(CLIPPED, lambda m, g: clip(m, g, 0.0, inf), "clip"),
        )

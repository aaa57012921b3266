"""Fuse a straight line and the clip to [0, 1] after it.

hard_sigmoid(x) = min(max(alpha x + beta, 0), 1) (Courbariaux et al., arXiv:1511.00363); relu6(x + 3) / 6 is the one
with alpha = 1 / 6 and beta = 1 / 2 (Howard et al., arXiv:1905.02244).
"""

from __future__ import annotations

from collections.abc import Callable

from compiler.graph import Value
from compiler.ops.activation import Clip, HardSigmoid
from compiler.ops.elementwise import Add, Div, Mul
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, OneOf, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import near, number, scalar, unary

X = Wild()
ALPHA, DIVISOR, BETA, SHRINK, SPAN = (scalar() for _ in range(5))
LINE = Layer(Add, OneOf(Layer(Mul, X, ALPHA), Layer(Div, X, DIVISOR)), BETA)
CLIPPED_LINE = Layer(Clip, LINE, where=lambda op: op.low == 0 and op.high == 1)
WINDOW = Layer(Clip, Layer(Add, X, BETA), where=lambda op: op.low == 0)
TIMES, OVER = Layer(Mul, WINDOW, SHRINK), Layer(Div, WINDOW, SPAN)


def inverse(value: float) -> float:
    """1 / value; 0, which no rule accepts, for 0."""
    return 1 / value if value else 0.0


def clipped_line(m: Match, g: Builder) -> Value | None:
    """clip(alpha x + beta, 0, 1)."""
    alpha = number(m[ALPHA]) if ALPHA in m else inverse(number(m[DIVISOR]))
    return unary(HardSigmoid(alpha=alpha, beta=number(m[BETA])), X)(m, g) if alpha else None


def scaled_window(shrink: Callable[[Match], float]) -> Callable[[Match, Builder], Value | None]:
    """clip(x + beta, 0, span) / span, from the factor 1 / span."""

    def fuse(m: Match, g: Builder) -> Value | None:
        alpha = shrink(m)
        if alpha <= 0 or not near(m.op(WINDOW).high * alpha, 1, m.value(X)):
            return None
        return unary(HardSigmoid(alpha=alpha, beta=number(m[BETA]) * alpha), X)(m, g)

    return fuse


class FuseHardSigmoid(RewritePass):
    """A scale, an offset and a clip become one `hard_sigmoid`."""

    def rules(self) -> tuple[Rule, ...]:
        times = Rule(TIMES, scaled_window(lambda m: number(m[SHRINK])), "scaled_window")
        over = Rule(OVER, scaled_window(lambda m: inverse(number(m[SPAN]))), "divided_window")
        return Rule(CLIPPED_LINE, clipped_line), times, over

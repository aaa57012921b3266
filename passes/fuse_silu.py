"""Fuse x * sigmoid(alpha x) into one layer.

silu(x) = x / (1 + exp(-x)) (Elfwing et al., arXiv:1702.03118); with a factor alpha it is Swish (Ramachandran et al.,
arXiv:1710.05941), and with alpha = 1.702 the quick GELU of CLIP.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.activation import Sigmoid, Silu
from compiler.ops.elementwise import Div, Exp, Mul, Neg
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, OneOf, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import number, plus, scalar, unary

X = Wild()
FACTOR, DIVISOR = scalar(), scalar()
GATE = Layer(Sigmoid, OneOf(X, Layer(Mul, X, FACTOR), Layer(Div, X, DIVISOR)))
SWISH = Layer(Mul, X, GATE)
QUOTIENT = Layer(Div, X, plus(Layer(Exp, Layer(Neg, X)), 1))


def swish(m: Match, g: Builder) -> Value | None:
    """The layer with the factor that the sigmoid's operand has."""
    alpha = 1.0
    if FACTOR in m:
        alpha = number(m[FACTOR])
    elif DIVISOR in m:
        divisor = number(m[DIVISOR])
        if not divisor:
            return None
        alpha = 1 / divisor
    return unary(Silu(alpha=alpha), X)(m, g)


class FuseSilu(RewritePass):
    """A sigmoid and the product that it gates become one `silu`."""

    def rules(self) -> tuple[Rule, ...]:
        return Rule(SWISH, swish), Rule(QUOTIENT, unary(Silu(), X), "silu")

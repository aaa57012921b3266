"""Fuse the layers of a GELU into one.

gelu(x) = x * (1 + erf(x / sqrt 2)) / 2, and its approximation x * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
(Hendrycks & Gimpel, arXiv:1606.08415), in every association of the products that exporters write.
"""

from __future__ import annotations

from math import pi, sqrt

from compiler.ops.activation import Gelu
from compiler.ops.elementwise import Add, Erf, Mul, Pow, Tanh
from compiler.pass_base import RewritePass
from compiler.pattern import Const, Layer, OneOf, Wild
from compiler.rewrite import Rule
from passes._idioms import plus, scaled_product, square, times, unary

K, C = 0.044715, sqrt(2 / pi)

X = Wild()
SQUARE = square(X)
KX = times(X, K)
KX2 = OneOf(times(SQUARE, K), Layer(Mul, KX, X))
CUBE = OneOf(Layer(Pow, X, Const(equal=3)), Layer(Mul, SQUARE, X))
KX3 = OneOf(times(CUBE, K), Layer(Mul, KX2, X), Layer(Mul, KX, SQUARE))
FACTORED = plus(KX2, 1)
INNER = OneOf(
    times(Layer(Add, X, KX3), C),
    Layer(Mul, times(X, C), FACTORED),
    Layer(Mul, X, times(FACTORED, C)),
    times(Layer(Mul, X, FACTORED), C),
)
ERF = plus(Layer(Erf, times(X, sqrt(0.5))), 1)
TANH = plus(Layer(Tanh, INNER), 1)


class FuseGelu(RewritePass):
    """Many element-by-element layers become one `gelu`."""

    def rules(self) -> tuple[Rule, ...]:
        exact, approximate = unary(Gelu(), X), unary(Gelu(approximate="tanh"), X)
        return (
            *(Rule(find, exact, "gelu") for find in scaled_product(X, ERF, 0.5)),
            *(Rule(find, approximate, "gelu_tanh") for find in scaled_product(X, TANH, 0.5)),
        )

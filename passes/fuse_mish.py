"""Fuse x * tanh(softplus(x)) into one layer, mish (Misra, arXiv:1908.08681).

softplus(x) = log(1 + exp(x)) may be one layer or written out.
"""

from __future__ import annotations

from compiler.ops.activation import Mish, Softplus
from compiler.ops.elementwise import Exp, Log, Mul, Tanh
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, OneOf, Wild
from compiler.rewrite import Rule
from passes._idioms import plus, unary

X = Wild()
SOFTPLUS = OneOf(Layer(Softplus, X), Layer(Log, plus(Layer(Exp, X), 1)))
MISH = Layer(Mul, X, Layer(Tanh, SOFTPLUS))


class FuseMish(RewritePass):
    """Three or more element-by-element layers become one `mish`."""

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(MISH, unary(Mish(), X), "mish"),)

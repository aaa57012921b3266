"""Fuse x * hard_sigmoid(x) and x * relu6(x + 3) / 6 into one layer.

hard_swish(x) = x * min(max(x / 6 + 1 / 2, 0), 1) (Howard et al., arXiv:1905.02244).
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.activation import Clip, HardSigmoid, HardSwish
from compiler.ops.elementwise import Mul
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import near, plus, scaled_product, unary

X = Wild()
GATE = Layer(HardSigmoid, X)
GATED = Layer(Mul, X, GATE)
WINDOW = Layer(Clip, plus(X, 3), where=lambda op: op.low == 0 and op.high == 6)
fuse = unary(HardSwish(), X)


def gated(m: Match, g: Builder) -> Value | None:
    """x * hard_sigmoid(x), if the slope is 1 / 6 and the offset 1 / 2."""
    gate, x = m.op(GATE), m.value(X)
    return fuse(m, g) if near(gate.alpha, 1 / 6, x) and near(gate.beta, 0.5, x) else None


class FuseHardSwish(RewritePass):
    """An operand and the hard sigmoid, or shifted clip, that gates it become one `hard_swish`."""

    def rules(self) -> tuple[Rule, ...]:
        windows = (Rule(find, fuse, "windowed") for find in scaled_product(X, WINDOW, 1 / 6))
        return Rule(GATED, gated), *windows

"""Compute leaky rectifiers by the larger of x and a x, for accelerators that have no kernel of them.

For 0 < a <= 1 that is the same; for a > 1 it is the smaller one."""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.activation import LeakyRelu, PRelu
from compiler.ops.elementwise import Max, Min, Mul
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def leaky(add: Layers, op: LeakyRelu, x: Value) -> Value | None:
    """Products and the larger, or smaller, of two; other slopes stay."""
    if op.alpha <= 0:
        return None
    return add(Max() if op.alpha <= 1 else Min(), x, add(Mul(), x, op.alpha))


def with_slope(add: Layers, op: PRelu, x: Value, slope: Value) -> Value | None:
    """The same for one constant slope, which runtimes compute as a leaky rectifier."""
    if slope.data is None or slope.data.size != 1:
        return None
    return leaky(add, LeakyRelu(alpha=float(slope.data.item())), x)


class SubstituteLeakyRelu(RewritePass):
    """Leaky rectifiers of a positive slope become a product and the larger, or smaller, of two values."""

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(LeakyRelu, leaky), instead_of(PRelu, with_slope))

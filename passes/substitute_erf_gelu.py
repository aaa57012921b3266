"""Compute GELU by one logistic function, as of its tanh form, where tables of straight pieces stand for functions."""

from __future__ import annotations

from math import pi, sqrt
from typing import ClassVar

from compiler import ops
from compiler.graph import Value
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of

BOUND = 4.74e-4


def parts(add: Layers, op: ops.Gelu, x: Value) -> Value:
    """x s(2 sqrt(2 / pi) (x + 0.044715 x^3)): (1 + tanh(z)) / 2 is s(2 z)."""
    scale = 2 * sqrt(2 / pi)
    slope = add(ops.Add(), add(ops.Mul(), add(ops.Mul(), x, x), 0.044715 * scale), scale)
    return add(ops.Mul(), x, add(ops.Sigmoid(), add(ops.Mul(), x, slope)))


class SubstituteErfGelu(RewritePass):
    """GELU in either form."""

    error_class = ErrorClass.LOSSY
    adds_work = True
    bound: ClassVar[str] = f"within {BOUND} of GELU, for any x; the tanh form exactly"

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(ops.Gelu, parts),)

"""Compute remainders by a quotient, rounded down, for accelerators that have no remainder."""

from __future__ import annotations

from typing import ClassVar

from compiler import ops
from compiler.graph import Value
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: ops.Mod, x: Value, y: Value) -> Value | None:
    """x - floor(x / y) y, with the sign of y."""
    if op.fmod:
        return None
    return add(ops.Sub(), x, add(ops.Mul(), add(ops.Floor(), add(ops.Div(), x, y)), y))


class SubstituteMod(RewritePass):
    """Remainders of floats with the sign of the divisor."""

    error_class = ErrorClass.LOSSY
    bound: ClassVar[str] = "the remainder as rounded; a divisor off where a quotient rounds to a whole number"

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(ops.Mod, parts),)

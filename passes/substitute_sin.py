"""Compute sine and cosine by a polynomial, for accelerators that have neither."""

from __future__ import annotations

from math import pi
from typing import ClassVar

from compiler import ops
from compiler.graph import Value
from compiler.op import Op
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._periodic import BOUNDS, sine
from passes._substitute import instead_of

OPERATIONS: dict[str, type[Op]] = {"sin": ops.Sin, "cos": ops.Cos}


def parts(add: Layers, op: Op, x: Value) -> Value:
    """cos(x) is sin(x + pi / 2)."""
    return sine(add, x if isinstance(op, ops.Sin) else add(ops.Add(), x, pi / 2))


class SubstituteSin(RewritePass):
    """Sines and cosines, those that `layers` names, become the multiple of pi that is nearest, and an odd polynomial of
    degree 7."""

    error_class = ErrorClass.LOSSY
    adds_work = True
    bound: ClassVar[str] = f"within {BOUNDS['sin']} in real arithmetic, {BOUNDS['sin_half']} in 16 bits up to 2 pi"
    layers: tuple[str, ...] = tuple(OPERATIONS)

    def rules(self) -> tuple[Rule, ...]:
        return tuple(instead_of(OPERATIONS[name], parts) for name in self.layers)

"""Compute Mish by a logistic function of straight pieces, for accelerators that have no exponential.

mish(x) = x tanh(log(1 + e^x)) (Misra, arXiv:1908.08681)."""

from __future__ import annotations

from typing import ClassVar

from compiler.graph import Value
from compiler.ops.activation import Mish
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._approximations import BOUNDS, mish
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: Mish, x: Value) -> Value:
    """x s(a x + b + c max(x - d, 0))."""
    return mish(add, x)


class SubstituteMish(RewritePass):
    """Layers of Mish become eight that any accelerator runs."""

    error_class = ErrorClass.LOSSY
    adds_work = True
    bound: ClassVar[str] = f"within {BOUNDS['mish']} of x tanh(log(1 + e^x)), for any x"

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Mish, parts),)

"""Compute ELU by a rectifier and a polynomial of the logistic function, where there is no exponential.

For m <= 0, e^m = s / (1 - s) with s = 1 / (1 + e^-m), at most 1/2."""

from __future__ import annotations

from typing import ClassVar

from compiler.graph import Value
from compiler.ops.activation import Elu
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._approximations import BOUNDS, elu
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: Elu, x: Value) -> Value:
    """max(x, 0) + alpha (s (a + b s^2) - 1), s the logistic function of min(x, 0)."""
    return elu(add, x, op.alpha)


class SubstituteElu(RewritePass):
    """Layers of ELU become nine that any accelerator runs."""

    error_class = ErrorClass.LOSSY
    adds_work = True
    bound: ClassVar[str] = f"within {BOUNDS['elu']} times alpha of ELU, for any x"

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Elu, parts),)

"""Compute the softplus by a rectifier and a polynomial of the logistic function, where there is no logarithm.

log(1 + e^x) = max(x, 0) - log(1 - u) with u = 1 / (1 + e^|x|), at most 1/2."""

from __future__ import annotations

from typing import ClassVar

from compiler.graph import Value
from compiler.ops.activation import Softplus
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._approximations import BOUNDS, softplus
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: Softplus, x: Value) -> Value:
    """max(x, 0) + u (a + b u)."""
    return softplus(add, x)


class SubstituteSoftplus(RewritePass):
    """Layers of softplus become nine that any accelerator runs."""

    error_class = ErrorClass.LOSSY
    adds_work = True
    bound: ClassVar[str] = f"within {BOUNDS['softplus']} of log(1 + e^x), for any x"

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Softplus, parts),)

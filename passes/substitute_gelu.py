"""Compute GELU by a logistic function of straight pieces, for accelerators that have no kernel of it.

gelu(x) = x Phi(x), both of its forms; the pieces replace the argument at which the logistic function is Phi."""

from __future__ import annotations

from typing import ClassVar

from compiler.graph import Value
from compiler.ops.activation import Gelu
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._approximations import BOUNDS, gelu
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: Gelu, x: Value) -> Value:
    """x s(a x + b (x - clip(x, -c, c)))."""
    return gelu(add, x)


class SubstituteGelu(RewritePass):
    """Layers of GELU become six that any accelerator runs."""

    error_class = ErrorClass.LOSSY
    adds_work = True
    bound: ClassVar[str] = f"within {BOUNDS['gelu']} of x Phi(x), for any x"

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Gelu, parts),)

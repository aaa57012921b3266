"""Compute magnitudes as the larger of x and -x, for accelerators that have no kernel of integers for them."""

from __future__ import annotations

from compiler.graph import Value
from compiler.op import Op
from compiler.ops.elementwise import Abs, Max, Mul
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: Op, x: Value) -> Value:
    """max(x, -x)."""
    return add(Max(), x, add(Mul(), x, -1.0))


class SubstituteAbs(RewritePass):
    """Magnitudes of floats become the larger of x and -x."""

    error_class = ErrorClass.EXACT
    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Abs, parts),)

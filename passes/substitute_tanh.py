"""Compute the hyperbolic tangent by the logistic function, for accelerators whose table of it has a jump."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Value
from compiler.op import Op
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: Op, x: Value) -> Value:
    """2 s(2 x) - 1."""
    return add(ops.Sub(), add(ops.Mul(), add(ops.Sigmoid(), add(ops.Mul(), x, 2.0)), 2.0), 1.0)


class SubstituteTanh(RewritePass):
    """Hyperbolic tangents of floats."""

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(ops.Tanh, parts),)

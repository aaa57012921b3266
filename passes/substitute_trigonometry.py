"""Compute rarer functions by sine, cosine, arctangent, exponential and logarithm, for accelerators without them."""

from __future__ import annotations

from typing import ClassVar

from compiler.graph import Value
from compiler.op import Op
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._periodic import BOUNDS, COMPOSED
from passes._substitute import instead_of

OPERATIONS: dict[str, type[Op]] = {op.name: op for op in COMPOSED}


def parts(add: Layers, op: Op, x: Value) -> Value:
    """By its formula."""
    return COMPOSED[type(op)](add, x)


class SubstituteTrigonometry(RewritePass):
    """Those of tan, asin, acos, sinh, cosh and atanh that `layers` names, by what they are in real arithmetic."""

    error_class = ErrorClass.LOSSY
    adds_work = True
    bound: ClassVar[str] = f"the same real function; in 16 bits, where it is at most 4, within {BOUNDS['composed']}"
    layers: tuple[str, ...] = tuple(OPERATIONS)

    def rules(self) -> tuple[Rule, ...]:
        return tuple(instead_of(OPERATIONS[name], parts) for name in self.layers)

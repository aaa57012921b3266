"""Decide by arithmetic on 0 and 1 what logic decides, for accelerators without it."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Value
from compiler.op import Op
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from compiler.tensor import F32
from passes._decompose import Layers
from passes._substitute import instead_of

OPERATIONS: dict[str, type[Op]] = {"and": ops.And, "or": ops.Or, "xor": ops.Xor}


def parts(add: Layers, op: Op, x: Value, y: Value) -> Value:
    """The product, the larger, or the size of the difference; what is over one half is true."""
    a, b = add.cast(x, F32), add.cast(y, F32)
    if isinstance(op, ops.Xor):
        decided = add(ops.Abs(), add(ops.Sub(), a, b))
    else:
        decided = add(ops.Mul() if isinstance(op, ops.And) else ops.Max(), a, b)
    return add(ops.Greater(), decided, 0.5)


class SubstituteLogic(RewritePass):
    """Those of and, or and xor that `layers` names."""

    error_class = ErrorClass.EXACT
    layers: tuple[str, ...] = tuple(OPERATIONS)

    def rules(self) -> tuple[Rule, ...]:
        return tuple(instead_of(OPERATIONS[name], parts, floats=False) for name in self.layers)

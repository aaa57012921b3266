"""Choose by products with 0 and 1 where what decides is no comparison, for accelerators that select after one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of

COMPARISONS = (ops.Less, ops.LessOrEqual, ops.Greater, ops.GreaterOrEqual, ops.Equal)


def parts(add: Layers, op: ops.Where, chosen: Value, x: Value, other: Value) -> Value | None:
    """m x + (1 - m) y, whose constant part is chosen now, and may be infinite."""
    if chosen.node is not None and isinstance(chosen.node.op, COMPARISONS):
        return None
    dtype = x.type.dtype
    terms = []
    for v, wanted in ((x, True), (other, False)):
        if chosen.data is not None and v.data is not None:
            terms.append(add.const(np.where(np.asarray(chosen.data) == wanted, v.data, 0), dtype))
        elif v.data is not None and not np.isfinite(np.asarray(v.data, np.float64)).all():
            return None
        else:
            share = add.cast(chosen, dtype)
            terms.append(add(ops.Mul(), v, share if wanted else add(ops.Sub(), 1.0, share)))
    return add.expand(add(ops.Add(), *terms), add.node.output.type.dims)


class SubstituteSelect(RewritePass):
    """Choices between floats by constants, inputs or logic become sums of products."""

    error_class = ErrorClass.LOSSY
    adds_work = True
    bound: ClassVar[str] = "the same numbers; what is infinite or NaN shows where it is not chosen"

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(ops.Where, parts),)

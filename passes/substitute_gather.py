"""Take constant neighbouring places along an axis by a slice, for accelerators that have no gather."""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.ops.index import Gather
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: Gather, x: Value, places: Value) -> Value | None:
    """A slice, without its axis where the place is a single number."""
    if places.data is None or places.type.rank > 1:
        return None
    length = x.type.dims[op.axis]
    at = np.atleast_1d(places.data).astype(np.int64)
    at = np.where(at < 0, at + length, at)
    first, last = int(at[0]), int(at[-1])
    if first < 0 or last >= length or (at != np.arange(first, first + at.size)).any():
        return None
    cut = add.cut(x, op.axis, first, last + 1)
    return add.reshape(cut, add.node.output.type.dims)


class SubstituteGather(RewritePass):
    """A gather of constant places that follow each other becomes a slice."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Gather, parts),)

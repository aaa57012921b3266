"""Look rows up in a small table by a product with ones where the indices are, for accelerators that cannot follow
computed indices."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.pass_base import RewritePass
from compiler.rewrite import Result, Rule, Skip
from compiler.tensor import F32
from passes._decompose import Layers
from passes._substitute import instead_of


class SubstituteEmbedding(RewritePass):
    """Gathers of floats from the rows of a constant of at most `most`: as many as 16-bit floats count."""

    adds_work = True
    most: int = 2048

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(ops.Gather, self._parts),)

    def _parts(self, add: Layers, op: ops.Gather, table: Value, indices: Value) -> Result:
        rows, *rest = table.type.dims
        if table.data is None or indices.data is not None or op.axis:
            return None
        if rows > self.most:
            return Skip(f"a table of {rows} rows is looked up faster than it is multiplied")
        if not np.isfinite(np.asarray(table.data, np.float64)).all():
            return Skip("the table has numbers that are not finite, which zeros do not take away")
        at = add.reshape(add.cast(indices, F32), (indices.type.size, 1))
        behind = add(ops.Mul(), add.cast(add(ops.Less(), at, 0.0), F32), float(rows))
        hot = add(ops.Equal(), add(ops.Add(), at, behind), add.const(np.arange(rows)[None], F32))
        wide = add.like(np.asarray(table.data).reshape(rows, -1), table)
        found = add(ops.Dense(), add.cast(hot, table.type.dtype), wide)
        return add.reshape(found, (*indices.type.dims, *rest))

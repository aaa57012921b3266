"""Put updates in constant places by slices next to each other, or by a matrix, where there is no scatter."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.pass_base import RewritePass
from compiler.rewrite import Result, Rule, Skip
from passes._decompose import Layers
from passes._scatter import boxed, placed
from passes._substitute import instead_of


def by_axis(add: Layers, op: ops.ScatterElements, x: Value, indices: Value, updates: Value) -> Result:
    """Where the places are the same along all other axes, which the updates fill."""
    if indices.data is None or op.reduction != "none":
        return None
    axis, dims = op.axis, x.type.dims
    whole = updates.type.dims[:axis] == dims[:axis] and updates.type.dims[axis + 1 :] == dims[axis + 1 :]
    column = np.moveaxis(np.asarray(indices.data), axis, 0).reshape(indices.type.dims[axis], -1)
    if not whole or (column != column[:, :1]).any():
        return Skip("the places differ between rows")
    return placed(add, x, updates, column[:, 0], axis)


def by_position(add: Layers, op: ops.ScatterND, x: Value, indices: Value, updates: Value) -> Result:
    """A region that updates fill in order goes between what is around it; else axes that an index counts are one."""
    if indices.data is None or op.reduction != "none":
        return None
    dims, depth = x.type.dims, indices.type.dims[-1]
    data = np.asarray(indices.data).reshape(-1, depth).astype(np.int64)
    data = np.where(data < 0, data + np.array(dims[:depth]), data)
    first, last = data.min(0), data.max(0) + 1
    if np.array_equal(data, np.indices(last - first).reshape(depth, -1).T + first):
        region = add.reshape(updates, (*(last - first).tolist(), *dims[depth:]))
        return boxed(add, x, region, first.tolist())
    rest = dims[depth:] or (1,)
    rows, new = (add.reshape(v, (n, *rest)) for v, n in ((x, prod(dims[:depth])), (updates, len(data))))
    places = np.asarray(np.ravel_multi_index(tuple(data.T), dims[:depth]))
    result = placed(add, rows, new, places, 0)
    return add.reshape(result, dims) if isinstance(result, Value) else result


class SubstituteScatter(RewritePass):
    """Scatters of floats to constant places become what they leave, concatenated, or products with selections."""

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(ops.ScatterElements, by_axis), instead_of(ops.ScatterND, by_position))

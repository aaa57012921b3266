"""Masks, codes, ranges and scatters by choices, comparisons and ScatterND."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.tensor import DTYPES, F32, I64
from passes._decompose import MADE, Layers, along, decomposes


@decomposes(ops.Trilu)
def _trilu(add: Layers, op: ops.Trilu, x: Value) -> Value | None:
    """A choice between x and 0: a product with the mask would turn infinities into NaN."""
    area = x.type.dims[-2:]
    if prod(area) > MADE:
        return None
    kept = add.const(op.evaluate(np.ones(area, np.bool_)), DTYPES["bool"])
    return add(ops.Where(), kept, x, add.const(0, x.type.dtype))


@decomposes(ops.Hardmax)
def _hardmax(add: Layers, op: ops.Hardmax, x: Value) -> Value | None:
    if 8 * x.type.dims[op.axis] > MADE:
        return None
    best = add(ops.ArgMax(axis=op.axis), x)
    places = add.const(along(np.arange(x.type.dims[op.axis]), op.axis, x.type.rank), I64)
    return add.cast(add(ops.Equal(), best, places), x.type.dtype)


@decomposes(ops.OneHot)
def _one_hot(add: Layers, op: ops.OneHot, indices: Value, values: Value) -> Value | None:
    """Each index compared with every position, then a choice between the two values."""
    if 8 * op.depth > MADE:
        return None
    rank, dims = indices.type.rank + 1, indices.type.dims
    index = add.cast(indices, I64)
    front = add(ops.Where(), add(ops.Less(), index, 0), add(ops.Add(), index, op.depth), index)
    column = add.reshape(front, (*dims[: op.axis], 1, *dims[op.axis :]))
    hot = add(ops.Equal(), column, add.const(along(np.arange(op.depth), op.axis, rank), I64))
    off, on = (add.reshape(add.cut(values, 0, k, k + 1), ()) for k in (0, 1))
    return add(ops.Where(), hot, on, off)


@decomposes(ops.Range)
def _range(add: Layers, op: ops.Range, start: Value, _limit: Value, delta: Value) -> Value | None:
    """start + delta * (0, 1, 2 ...): how many there are is known."""
    dtype = start.type.dtype
    if 8 * add.node.output.type.size > MADE:
        return None
    inner = F32 if dtype.is_float and dtype.bits < 32 else dtype
    first, step = (add.cast(add.reshape(v, ()), inner) for v in (start, delta))
    counted = add.const(np.arange(add.node.output.type.dims[0]), inner)
    return add.cast(add(ops.Add(), add(ops.Mul(), counted, step), first), dtype)


@decomposes(ops.ShapeOf, ops.SizeOf)
def _known(add: Layers, op: ops.ShapeOf | ops.SizeOf, x: Value) -> Value:
    return add.const(op.evaluate(np.broadcast_to(np.int8(0), x.type.dims)), I64)


@decomposes(ops.ConstantOfShape)
def _constant_of_shape(add: Layers, op: ops.ConstantOfShape) -> Value:
    return add.filled(op.value, DTYPES[op.dtype], op.shape)


@decomposes(ops.MaxUnpool)
def _max_unpool(add: Layers, op: ops.MaxUnpool, x: Value, indices: Value) -> Value:
    """Into one element more than there are, which takes what has no place."""
    count, size = x.type.size, prod(op.shape)
    inside = add(ops.And(), add(ops.GreaterOrEqual(), indices, 0), add(ops.Less(), indices, size))
    places = add.reshape(add(ops.Where(), inside, indices, size), (count, 1))
    y = add(ops.ScatterND(), add.filled(0, x.type.dtype, (size + 1,)), places, add.reshape(x, (count,)))
    return add.reshape(add.cut(y, 0, 0, size), op.shape)

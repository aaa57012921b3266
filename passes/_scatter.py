"""Rows of two values, in an order that is known."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.rewrite import Skip
from compiler.tensor import Array
from passes._decompose import Layers, along

MOST_PARTS = 12  # that are joined at once
MOST_SELECTED = 1 << 22  # elements of a matrix that selects


def placed(add: Layers, x: Value, updates: Value, places: Array, axis: int) -> Value | Skip:
    """x with the updates at some places along an axis; the last of those for one place stays."""
    length = x.type.dims[axis]
    source = np.full(length, -1)  # which update stands at a place
    source[np.where(places < 0, places + length, places)] = np.arange(len(places))
    alike = np.where(source[:-1] < 0, source[1:] < 0, np.diff(source) == 1)
    edges = np.flatnonzero(~alike) + 1
    begins, ends = [0, *edges.tolist()], [*edges.tolist(), length]
    if len(begins) <= MOST_PARTS:
        parts = [
            add.cut(x, axis, a, b) if source[a] < 0 else add.cut(updates, axis, int(source[a]), int(source[a]) + b - a)
            for a, b in zip(begins, ends, strict=True)
        ]
        return parts[0] if len(parts) == 1 else add(ops.Concat(axis=axis), *parts)
    return _selected(add, x, updates, source, axis)


def boxed(add: Layers, x: Value, region: Value, first: list[int]) -> Value:
    """x with a region of it replaced, which begins at some place."""
    for axis, begin in enumerate(first):
        end, length = begin + region.type.dims[axis], x.type.dims[axis]
        if end - begin < length:
            rest = [0 if i == axis else v for i, v in enumerate(first)]
            parts = [boxed(add, add.cut(x, axis, begin, end), region, rest)]
            if begin:
                parts.insert(0, add.cut(x, axis, 0, begin))
            if end < length:
                parts.append(add.cut(x, axis, end, length))
            return add(ops.Concat(axis=axis), *parts)
    return region


def _selected(add: Layers, x: Value, updates: Value, source: Array, axis: int) -> Value | Skip:
    """x where it stays, and rows of the updates that a matrix of ones selects. Constants are chosen from now, and may
    be infinite."""
    length, count = len(source), updates.type.dims[axis]
    if length * count > MOST_SELECTED:
        return Skip(f"{count} scattered rows of {length} would take a matrix of {length * count} numbers")
    stays = along(source < 0, axis, x.type.rank)
    if x.data is not None:
        kept = add.const(np.where(stays, x.data, 0), x.type.dtype)
    else:
        kept = add(ops.Mul(), x, add.const(stays, x.type.dtype))
    if updates.data is not None:
        rows = np.take(updates.data, np.maximum(source, 0), axis)
        return add(ops.Add(), kept, add.const(np.where(stays, 0, rows), x.type.dtype))
    return add(ops.Add(), kept, _chosen(add, updates, source, axis))


def _chosen(add: Layers, updates: Value, source: Array, axis: int) -> Value:
    """Rows of computed updates, and zeros."""
    rank, count = updates.type.rank, updates.type.dims[axis]
    order = [axis, *(i for i in range(rank) if i != axis)]
    moved = add.transpose(updates, order)
    rows = add.reshape(moved, (count, moved.type.size // count))
    chosen = add(ops.MatMul(), add.const(source[:, None] == np.arange(count), updates.type.dtype), rows)
    shaped = add.reshape(chosen, (len(source), *moved.type.dims[1:]))
    return add.transpose(shaped, [order.index(i) for i in range(rank)])

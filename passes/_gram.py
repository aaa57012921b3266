"""Second-order statistics of what a layer multiplies its weights with, H = X^T X, from a sample of rows.

Weights are seen as [groups, results, inputs]: a convolution has the taps of each input channel side by side, a dense
layer one group. H is kept in blocks of neighbouring inputs along its diagonal, so that it stays small.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod

import numpy as np

from compiler.graph import Node, Value
from compiler.ops.conv import Conv
from compiler.ops.matmul import Dense, MatMul
from compiler.ops.window import Index, padded, patches
from compiler.tensor import F32, Array

BLOCK = 512  # inputs that are seen together
FEWEST, MOST = 1 << 11, 1 << 13  # rows of X in all, about
NUMBERS = 1 << 21  # of X, between these


def is_matrix(node: Node) -> bool:
    """Whether the layer multiplies what it reads with a constant matrix, or with one for each group of channels."""
    if type(node.op) not in (Conv, Dense, MatMul):
        return False
    x, w = _operands(node)
    known = w.data is not None and x.data is None and w.type.dtype is F32 and w.type.size > 0
    return known and (type(node.op) is Conv or w.type.rank == 2)


def as_rows(node: Node, w: Array) -> Array:
    """A weight, or anything of its shape, as [groups, results, inputs]."""
    if isinstance(node.op, Conv):
        return w.reshape(node.op.groups, w.shape[0] // node.op.groups, prod(w.shape[1:]))
    return (w if getattr(node.op, "transposed", False) else w.T)[None]


def from_rows(node: Node, rows: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `as_rows`."""
    if isinstance(node.op, Conv):
        return rows.reshape(shape)
    return np.ascontiguousarray(rows[0] if getattr(node.op, "transposed", False) else rows[0].T)


def kind_of(node: Node) -> Hashable:
    """What two layers have in common that have the same H."""
    x, w = _operands(node)
    return (x, node.op, w.type.shape[1:]) if isinstance(node.op, Conv) else x


def samples(node: Node, x: Array, most: int, rng: np.random.Generator) -> Array:
    """About `most` rows of X, [groups, rows, inputs]."""
    if not isinstance(node.op, Conv):
        flat = x.reshape(-1, x.shape[-1])
        return flat[_some(len(flat), most, rng)][None]
    op, w = node.op, _operands(node)[1]
    n, kernel, out = len(op.strides), w.type.dims[2:], node.output.type.dims[2:]
    view = patches(padded(x, op.pads[:n], op.pads[n:]), out, kernel, op.strides, op.dilations)
    where = np.unravel_index(_some(prod(out), max(1, most // len(x)), rng), out)
    inside: Index = (*(slice(None),) * (2 + n), *where)
    taken = view[inside]  # [N,C,*kernel,places]
    grouped = taken.reshape(len(x), op.groups, -1, taken.shape[-1])
    return grouped.transpose(1, 0, 3, 2).reshape(op.groups, -1, grouped.shape[2])


def results(node: Node, y: Array, most: int, rng: np.random.Generator) -> Array:
    """The rows [rows, results] of what a layer computes, or of anything of that shape but for the channels, that belong
    to those that `samples` takes."""
    if not isinstance(node.op, Conv):
        flat = y.reshape(-1, y.shape[-1])
        return flat[_some(len(flat), most, rng)]
    places: Array = y.reshape(*y.shape[:2], -1)
    taken = places.take(_some(places.shape[2], max(1, most // len(y)), rng), 2)
    return taken.transpose(0, 2, 1).reshape(-1, y.shape[1])


def enough(node: Node) -> int:
    """How many rows of X show what a layer reads; fewer where each is long."""
    w = _operands(node)[1].type
    inputs = w.size // w.dims[0] if isinstance(node.op, Conv) else max(w.dims)
    return min(MOST, max(FEWEST, NUMBERS // max(inputs, 1)))


class Gram:
    """The blocks of H of one layer, with how many rows of X they are of."""

    def __init__(self) -> None:
        self.blocks: list[Array] = []
        self.count = 0

    def add(self, rows: Array) -> None:
        """Take in rows of X, [groups, rows, inputs]."""
        parts = [rows[..., i : i + BLOCK] for i in range(0, rows.shape[-1], BLOCK)]
        found = [np.matmul(p.transpose(0, 2, 1), p) for p in parts]
        self.blocks = found if not self.blocks else [a + b for a, b in zip(self.blocks, found, strict=True)]
        self.count += rows.shape[1]


def together(grams: Sequence[Gram]) -> Gram:
    """H of all rows that several layers read."""
    found = Gram()
    found.blocks = [np.sum(blocks, axis=0) for blocks in zip(*(g.blocks for g in grams), strict=True)]
    found.count = sum(g.count for g in grams)
    return found


def _some(count: int, most: int, rng: np.random.Generator) -> Array:
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))


def _operands(node: Node) -> tuple[Value, Value]:
    x, w = node.inputs[:2]
    assert x is not None
    assert w is not None
    return x, w

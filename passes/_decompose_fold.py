"""Sums of patches and of permutations, and updates of a cache: Col2Im, Det, TensorScatter."""

from __future__ import annotations

from itertools import combinations
from math import prod

import numpy as np

from compiler import ops
from compiler.tensor import I32
from passes._decompose import MADE, decomposes
from passes._terms import Term, formula

LARGEST_DET = 4


@decomposes(ops.Col2Im)
@formula
def _col2im(op: ops.Col2Im, x: Term) -> Term | None:
    """The transposed convolution with one kernel for each place in the block: a one there, zeros elsewhere."""
    if not x.dtype.is_float or 8 * prod(op.block) ** 2 > MADE:
        return None
    n, c, block, axes = x.dims[0], x.dims[1] // prod(op.block), prod(op.block), range(len(op.image))
    steps = op.steps
    reach = [(steps[i] - 1) * op.strides[i] + (op.block[i] - 1) * op.dilations[i] + 1 for i in axes]
    rest = tuple(op.pads[i] + op.image[i] + op.pads[len(axes) + i] - reach[i] for i in axes)
    spread = ops.ConvTranspose(strides=op.strides, pads=op.pads, dilations=op.dilations, output_padding=rest)
    kernels = x.const(np.eye(block).reshape(block, 1, *op.block))
    return x.reshape(n * c, block, *steps).via(spread, kernels).reshape(n, c, *op.image)


@decomposes(ops.TensorScatter)
@formula
def _tensor_scatter(op: ops.TensorScatter, x: Term, updates: Term, starts: Term | None = None) -> Term:
    """Each element along the axis is chosen between what was there and the update that falls on it."""
    axis = op.axis % len(x.dims)
    batch, length, count = x.dims[0], x.dims[axis], updates.dims[axis]
    perm = [0, axis, *(i for i in range(1, len(x.dims)) if i != axis)]
    back = [perm.index(i) for i in range(len(perm))]
    old, new = x.transpose(*perm), updates.transpose(*perm)
    rest = old.dims[2:]
    first = x.const(np.zeros(batch), I32) if starts is None else starts.cast(I32)
    number = first.const(np.arange(length)[None]) - first.reshape(batch, 1)
    if op.mode == "circular":
        number = number.via(ops.Mod(), length)
    inside = number.above(-1).via(ops.And(), number.below(count))
    rows = number.clip(0, count - 1) + number.const(np.arange(batch).reshape(batch, 1) * count)
    taken = new.reshape(batch * count, *rest).take(rows)
    return inside.reshape(batch, length, *(1 for _ in rest)).choose(taken, old).transpose(*back)


@decomposes(ops.Det)
@formula
def _det(op: ops.Det, x: Term) -> Term | None:
    """Laplace's expansion, each minor of the first rows computed once."""
    size, lead = x.dims[-1], x.dims[:-2]
    if size > LARGEST_DET:
        return None
    flat = x.widened().reshape(prod(lead), size * size)
    minors: dict[tuple[int, ...], Term] = {(c,): flat.part(1, c, c + 1) for c in range(size)}
    for row in range(1, size):
        entries = [flat.part(1, row * size + c, row * size + c + 1) for c in range(size)]
        minors = {
            columns: _expanded([(entries[c], minors[(*columns[:i], *columns[i + 1 :])]) for i, c in enumerate(columns)])
            for columns in combinations(range(size), row + 1)
        }
    return minors[tuple(range(size))].reshape(*lead).cast(x.dtype)


def _expanded(products: list[tuple[Term, Term]]) -> Term:
    """The products with alternating signs, the last one positive."""
    entry, minor = products[-1]
    value = entry * minor
    for distance, (entry, minor) in enumerate(reversed(products[:-1])):
        value = value + entry * minor if distance % 2 else value - entry * minor
    return value

"""Sampling at the places of a grid (Jaderberg et al., arXiv:1506.02025), of any number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from compiler import ops
from compiler.ops.sampling import CUBIC_A
from compiler.tensor import F32, I32, Array
from passes._decompose import decomposes
from passes._sampling import Tap, corners, image_starts, index_of, inside, rows_of, zero_padded
from passes._terms import Term, formula, total


@decomposes(ops.GridSample)
@formula
def _grid_sample(op: ops.GridSample, x: Term, grid: Term) -> Term | None:
    """One gather per tap; weighed sums of integers are cut off, which depends on their last bit."""
    if not x.dtype.is_float and op.mode != "nearest":
        return None
    n, c, *dims = x.dims
    out, rank = grid.dims[1:-1], len(dims)
    source = x.widened() if x.dtype.is_float else x
    places = grid.cast(source.dtype if x.dtype.is_float else F32).reshape(n, prod(out), rank)
    axes = []
    for i, length in enumerate(dims):
        at = places.part(2, rank - 1 - i, rank - i).reshape(n, prod(out))
        axes.append(_grid_taps(op, at, length, prod(dims[i + 1 :])))
    starts = image_starts(x, prod(dims))
    y = total(corners(rows_of(source), axes, starts)).reshape(n, *out, c)
    return y.transpose(0, rank + 1, *range(1, rank + 1)).cast(x.dtype)


def _grid_taps(op: ops.GridSample, v: Term, length: int, stride: int) -> list[Tap]:
    at = (v + 1) * 0.5 * (length - 1) if op.align_corners else ((v + 1) * length - 1) * 0.5
    if op.mode == "nearest":
        at = at.round()
    low, high = (0.0, length - 1.0) if op.align_corners else (-0.5, length - 0.5)
    if op.padding == "border" and op.mode != "cubic":
        at = at.clip(0, length - 1)
    elif op.padding == "reflection":
        at = _reflected(at, low, high)
    base = at if op.mode == "nearest" else at.floor()
    taps = []
    for tap, weight in _weights(op, at, base):
        place = base + tap if tap else base
        if op.padding == "zeros":
            taps.append(inside(place, weight, length, stride))
            continue
        if op.padding == "reflection":
            place = _reflected(place, low, high)
        taps.append(Tap(index_of(place.clip(0, length - 1), stride), weight))
    return taps


def _weights(op: ops.GridSample, at: Term, base: Term) -> list[tuple[int, Term | None]]:
    """The distance from the element before, and the weight, of each tap."""
    if op.mode == "nearest":
        return [(0, None)]
    f = at - base
    if op.mode == "linear":
        return [(0, 1 - f), (1, f)]
    return [(-1, _far(f + 1)), (0, _near(f)), (1, _near(1 - f)), (2, _far(2 - f))]


def _near(x: Term, a: float = CUBIC_A) -> Term:
    """Keys' kernel at distances up to 1."""
    return (x * (a + 2) - (a + 3)) * x * x + 1


def _far(x: Term, a: float = CUBIC_A) -> Term:
    """Keys' kernel at distances from 1 to 2."""
    return ((x * a - 5 * a) * x + 8 * a) * x - 4 * a


def _reflected(at: Term, low: float, high: float) -> Term:
    """Mirrored at both borders: a wave of triangles."""
    span = high - low
    if span <= 0:
        return at.const(np.full(at.dims, low))
    beyond = at - low
    turns = (beyond / span).floor()
    rest = beyond - turns * span
    odd = turns - (turns * 0.5).floor() * 2
    return rest + odd * (span - rest * 2) + low


@decomposes(ops.DeformConv)
@formula
def _deform_conv(
    op: ops.DeformConv, x: Term, w: Term, offset: Term, b: Term | None = None, mask: Term | None = None
) -> Term:
    """The moved elements of all windows as a matrix, times the kernels of each group."""
    (n, c, height, width), (m, depth, *kernel), groups = x.dims, w.dims, op.offset_groups
    k, out = prod(kernel), offset.dims[2:]
    each = prod(out)
    moved = offset.widened().reshape(n, groups, k, 2, each)
    rows, columns = (
        moved.part(3, i, i + 1).reshape(n, groups, k, each) + _window_places(op, kernel, out, i) for i in range(2)
    )
    images = x.widened().reshape(n * groups, c // groups, height, width)
    starts = np.arange(n * groups).reshape(n, groups, 1, 1) * height * width
    first = None if n * groups == 1 else x.const(starts, I32)
    seen = total(corners(rows_of(images), [zero_padded(rows, height, width), zero_padded(columns, width)], first))
    if mask is not None:
        seen = seen * mask.widened().reshape(n, groups, k, each, 1)
    matrix = seen.transpose(0, 3, 1, 4, 2).reshape(n, each, op.groups, depth * k).transpose(0, 2, 1, 3)
    kernels = w.widened().reshape(op.groups, m // op.groups, depth * k).transpose(0, 2, 1)
    y = matrix.via(ops.MatMul(), kernels).transpose(0, 1, 3, 2).reshape(n, m, *out)
    return (y if b is None else y + b.widened().reshape(m, 1, 1)).cast(x.dtype)


def _window_places(op: ops.DeformConv, kernel: Sequence[int], out: Sequence[int], axis: int) -> Array:
    """Where each tap of each window lies along one axis, if it is not moved: [1,1,taps,windows]."""
    tap, window = (np.indices(sizes)[axis].reshape(-1) for sizes in (kernel, out))
    return (tap[:, None] * op.dilations[axis] + window * op.strides[axis] - op.pads[axis])[None, None]

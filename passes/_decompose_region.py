"""Regions of images pooled to one size: RoiAlign (He et al., arXiv:1703.06870), MaxRoiPool (Girshick, 1504.08083)."""

from __future__ import annotations

from math import ceil, inf, prod

import numpy as np

from compiler import ops
from compiler.ops.numeric import widen
from compiler.ops.region import samples_along
from compiler.tensor import I32, Array
from passes._decompose import decomposes
from passes._sampling import Tap, corners, index_of, rows_of
from passes._terms import Term, concat, formula, total


@decomposes(ops.RoiAlign)
@formula
def _roi_align(op: ops.RoiAlign, x: Term, rois: Term, images: Term) -> Term | None:
    """Gathers of the four neighbours of all points. As many points as the region has pixels (sampling 0) are known for
    constant regions only."""
    if not op.sampling:
        return _by_matrices(op, x, rois, images)
    (_, c, *dims), regions, s = x.dims, rois.dims[0], op.sampling
    corner = rois.widened() * op.scale - 0.5 * op.half_pixel
    axes = []
    for a in (0, 1):
        start, end = (corner.part(1, i, i + 1) for i in (1 - a, 3 - a))
        extent = end - start if op.half_pixel else (end - start).clip(1.0, inf)
        points = np.arange(op.size[a] * s) // s + (np.arange(op.size[a] * s) % s + 0.5) / s
        at = start + extent / op.size[a] * points[None]
        shape = (regions, -1, 1) if a == 0 else (regions, 1, -1)
        taps = _clamped(at, dims[a], dims[1] if a == 0 else 1)
        axes.append([Tap(_shaped(t.row, shape), t.weight and _shaped(t.weight, shape)) for t in taps])
    first = images.cast(I32).reshape(regions, 1, 1) * prod(dims)
    seen = corners(rows_of(x.widened()), axes, first)
    height, width = op.size
    if op.mode == "max":
        y = seen[0].via(ops.Max(), *seen[1:]).reshape(regions * height, s, width, s, c).via(ops.ReduceMax(axes=(1, 3)))
    else:
        y = total(seen).reshape(regions * height, s, width, s, c).via(ops.ReduceMean(axes=(1, 3)))
    return y.reshape(regions, height, width, c).transpose(0, 3, 1, 2).cast(x.dtype)


def _shaped(t: Term, shape: tuple[int, ...]) -> Term:
    return t.reshape(*(t.dims[1] if d < 0 else d for d in shape))


def _clamped(at: Term, length: int, stride: int) -> list[Tap]:
    """The elements around each point, moved into the image; more than one element outside it has no weight."""
    near = at.clip(0, length - 1)
    known = at.clip(-1, length).equals(at).cast(at.dtype)
    low = near.floor()
    fraction = near - low
    return [
        Tap(index_of(low, stride), (1 - fraction) * known),
        Tap(index_of((low + 1).clip(0, length - 1), stride), fraction * known),
    ]


def _by_matrices(op: ops.RoiAlign, x: Term, rois: Term, images: Term) -> Term | None:
    """The mean of each region as a product of constant matrices on either side of its image."""
    data = rois.value.data
    if op.mode != "avg" or data is None:
        return None
    corner = widen(np.asarray(data)) * np.float32(op.scale) - np.float32(0.5 * op.half_pixel)
    rows, columns = (
        np.stack([_axis_weights(op, r[1 - a], r[3 - a], op.size[a], x.dims[2 + a]) for r in corner]) for a in (0, 1)
    )
    seen = x.widened().take(images.cast(I32))
    left = seen.const(rows[:, None]).via(ops.MatMul(), seen)
    return left.via(ops.MatMul(), seen.const(columns[:, None].swapaxes(2, 3))).cast(x.dtype)


def _axis_weights(op: ops.RoiAlign, start: float, end: float, bins: int, length: int) -> Array:
    """The weights [bins,length] of the elements along one axis of a region."""
    extent = end - start if op.half_pixel else max(end - start, 1.0)
    count = max(ceil(extent / bins), 0)
    found = samples_along(float(start), float(extent / bins), bins, count, length)
    matrix = np.zeros((bins * count, length))
    for places, weights in ((found.low, found.low_weight), (found.high, found.high_weight)):
        np.add.at(matrix, (np.arange(bins * count), places), weights)
    return matrix.reshape(bins, count, length).sum(1) / max(count, 1)


@decomposes(ops.MaxRoiPool)
@formula
def _max_roi_pool(op: ops.MaxRoiPool, x: Term, rois: Term) -> Term:
    """The maximum over the rows of each bin, then over the columns; 0 where a bin holds nothing."""
    regions = rois.dims[0]
    numbers = (rois.part(1, 1, 5) * op.scale + 0.5).floor()
    y = x.take(rois.part(1, 0, 1).reshape(regions).cast(I32))
    for axis in (0, 1):
        low, high = _bins(numbers.part(1, 1 - axis, 2 - axis), numbers.part(1, 3 - axis, 4 - axis), op.size[axis])
        length = x.dims[2 + axis]
        place = np.arange(length).reshape([-1 if i == axis + 2 else 1 for i in range(4)])
        best = []
        for i in range(op.size[axis]):
            begin, end = (t.part(1, i, i + 1).reshape(regions, 1, 1, 1) for t in (low, high))
            known = begin.below(place + 0.5).via(ops.And(), end.above(place + 0.5))
            best.append(known.choose(y, -inf).via(ops.ReduceMax(axes=(axis + 2,))))
        y = concat(best, axis + 2)
    return y.above(-inf).choose(y, 0.0)


def _bins(start: Term, end: Term, bins: int) -> tuple[Term, Term]:
    """First and past-the-last element of each bin of inclusive ranges [R,1]."""
    step = (end - start + 1).clip(1, inf) / bins
    edges = np.arange(bins)[None]
    first, last = step * edges, step * (edges + 1)
    return start + first.floor(), start + last.via(ops.Ceil())

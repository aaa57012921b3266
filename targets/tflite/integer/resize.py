"""Resizing of images, NHWC; operand and result have the same parameters."""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.fixed import round_away, truncated
from targets.tflite.integer.kernel import INT8_16, Kernel, Node

BITS = 10  # of the fraction of a place


def _bilinear(node: Node) -> Array:
    """Places and weights have 10 bits of fraction; the sum of four products is rounded once, half away from zero."""
    x = node.value().astype(np.int64)
    (top, bottom, y), (left, right, z) = (
        places(node, size, out) for size, out in zip(x.shape[1:3], node.ints(1), strict=True)
    )
    y, z = y[:, None, None], z[None, :, None]
    one = 1 << BITS
    above, below = x[:, top], x[:, bottom]
    upper = above[:, :, left] * (one - z) + above[:, :, right] * z
    lower = below[:, :, left] * (one - z) + below[:, :, right] * z
    total = upper * (one - y) + lower * y
    half = np.where(total > 0, 1 << (2 * BITS - 1), -(1 << (2 * BITS - 1)))
    return truncated(total + half, 1 << 2 * BITS).astype(node.value().dtype)


def places(node: Node, size: int, out: int) -> tuple[Array, Array, Array]:
    """For each of `out` places the elements before and after it, and its distance to the former."""
    if node.option("AlignCorners", False) and out > 1:
        step = (((size - 1) << BITS) + (out - 1) // 2) // (out - 1)
    else:
        step = ((size << BITS) + out // 2) // out
    place = np.arange(out, dtype=np.int64) * step
    if node.option("HalfPixelCenters", False):
        place = place + step // 2 - (1 << (BITS - 1))
    before = np.maximum(truncated(place, 1 << BITS), 0)
    after = np.minimum(truncated(place + (1 << BITS) - 1, 1 << BITS), size - 1)
    return before, after, place - (before << BITS)


def _nearest(node: Node) -> Array:
    """Places are computed in float32."""
    x = node.value()
    rows, columns = (_nearest_places(node, size, out) for size, out in zip(x.shape[1:3], node.ints(1), strict=True))
    return x[:, rows][:, :, columns]


def _nearest_places(node: Node, size: int, out: int) -> Array:
    align, half = node.option("AlignCorners", False), node.option("HalfPixelCenters", False)
    ends = (size - 1, out - 1) if align and out > 1 else (size, out)
    step = np.float32(ends[0]) / np.float32(ends[1])
    place = (np.arange(out).astype(np.float32) + np.float32(0.5 if half else 0.0)) * step
    index = round_away(place) if align else np.floor(place)
    return np.clip(index, 0, size - 1).astype(np.int64)


KERNELS = {
    "RESIZE_BILINEAR": Kernel(_bilinear, INT8_16),
    "RESIZE_NEAREST_NEIGHBOR": Kernel(_nearest, INT8_16),
}

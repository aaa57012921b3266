"""Resampling: the builtins where they read the same elements with the same weights, else constant products."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.ops.layout import Order, channels_last
from compiler.target import Need
from compiler.tensor import Array
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import FLOAT, lowers
from targets.tflite.model import Tensor

F = np.float32
CLOSE = 1e-5  # of the weights of two taps
LONG = 40  # elements of an axis, for each tap, above which taps are faster than a matrix (measured, one thread)


SMOOTH = Need(
    text="floats (any elements in mode nearest)",
    holds=lambda node: getattr(node.op, "mode", "") == "nearest" or FLOAT.holds(node),
    source=FLOAT.source,
    confidence=FLOAT.confidence,
)


@lowers(ops.Resize, needs=[SMOOTH])
def _resize(p: Lowering, node: Node, op: ops.Resize) -> None:
    (v,) = node.inputs
    assert v is not None
    axes = op.resized_axes(v.type.dims)
    order = channels_last(4) if v.type.rank == 4 and set(axes) <= {2, 3} else p.result_order(node)
    x = p.get(v, order)
    taps = {a: op.taps(a, v.type.dims[a]) for a in axes}
    y = _builtin(p, x, op, taps, v.type.dims) if order == channels_last(4) else None
    if y is None:
        y = x
        for axis, (places, weights) in taps.items():
            y = _resampled(p, y, order.index(axis), places, weights)
    p.finish(node, _extrapolated(p, y, op, v.type.dims, order), order)


def _extrapolated(p: Lowering, x: Tensor, op: ops.Resize, dims: tuple[int, ...], order: Order) -> Tensor:
    """What a crop takes from outside of its operand, set to one number."""
    inside: Array = np.ones((1,) * len(dims), bool)
    for axis in op.resized_axes(dims) if op.coordinates == "tf_crop_and_resize" else ():
        at = op.coordinates_of(axis, dims[axis])
        within = (at >= 0) & (at <= dims[axis] - 1)
        inside = inside & within.reshape([-1 if i == axis else 1 for i in order])
    if inside.all():
        return x
    value = float(op.extrapolation_value) if x.dtype == "FLOAT32" else int(op.extrapolation_value)
    return p.select(p.const(inside, "BOOL"), x, p.scalar(value, x.dtype))


def _builtin(
    p: Lowering, x: Tensor, op: ops.Resize, taps: Mapping[int, tuple[Array, Array]], dims: tuple[int, ...]
) -> Tensor | None:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR in the first form that agrees along both axes."""
    if op.mode == "cubic" or x.dtype != "FLOAT32":
        return None
    code = "RESIZE_NEAREST_NEIGHBOR" if op.mode == "nearest" else "RESIZE_BILINEAR"
    for corners, half in ((False, False), (False, True), (True, False)):
        if all(_agrees(op, taps.get(a), dims[a], op.sizes[a], corners, half) for a in (2, 3)):
            shape = (x.shape[0], *op.sizes[2:], x.shape[3])
            options = {"AlignCorners": corners, "HalfPixelCenters": half}
            return p.add(code, [x, p.ints(op.sizes[2:])], x.dtype, shape, **options)
    return None


def _agrees(
    op: ops.Resize, taps: tuple[Array, Array] | None, length: int, size: int, corners: bool, half: bool
) -> bool:
    if taps is None:
        return True
    scale = F(length - 1) / F(size - 1) if corners and size > 1 else F(length) / F(size)
    at = np.arange(size, dtype=F)
    if op.mode == "nearest":
        at = (at + F(0.5)) * scale if half else at * scale
        index = np.floor(at + F(0.5)) if corners else np.floor(at)
        return bool((np.clip(index, 0, length - 1) == taps[0][:, 0]).all())
    at = (at + F(0.5)) * scale - F(0.5) if half else at * scale
    low = np.maximum(np.floor(at), 0)
    return bool(np.abs(_matrix(*taps, length) - _linear_matrix(at, low, length)).max(initial=0) < CLOSE)


def _linear_matrix(at: Array, low: Array, length: int) -> Array:
    fraction = np.clip(at, 0, None) - low
    places = np.stack([low, low + 1], 1).clip(0, length - 1).astype(np.int64)
    return _matrix(places, np.stack([1 - fraction, fraction], 1), length)


def _matrix(places: Array, weights: Array, length: int) -> Array:
    """The matrix [size,length] of taps."""
    matrix = np.zeros((len(places), length))
    np.add.at(matrix, (np.arange(len(places))[:, None], places), weights)
    return matrix


def _resampled(p: Lowering, x: Tensor, axis: int, places: Array, weights: Array) -> Tensor:
    """Elements gathered along an axis where each result reads one; else a product with a matrix, or for long axes the
    sum of what is gathered for each tap."""
    if weights.shape[1] == 1 and (weights == 1).all():
        return p.take(x, p.ints(places[:, 0]), axis)
    used = [k for k in range(weights.shape[1]) if weights[:, k].any()]
    if x.shape[axis] > LONG * len(used):
        return _summed(p, x, axis, places[:, used], weights[:, used])
    before, after = prod(x.shape[:axis]), prod(x.shape[axis + 1 :])
    matrix = _matrix(places, weights, x.shape[axis])
    flat = p.reshape(x, (before, x.shape[axis], after))
    y = p.matmul(p.const(matrix[None], "FLOAT32"), flat)
    return p.reshape(y, (*x.shape[:axis], len(matrix), *x.shape[axis + 1 :]))


def _summed(p: Lowering, x: Tensor, axis: int, places: Array, weights: Array) -> Tensor:
    total: Tensor | None = None
    for index, weight in zip(places.T, weights.T, strict=True):
        factor = p.const(weight.reshape([-1 if i == axis else 1 for i in range(len(x.shape))]), "FLOAT32")
        part = p.binary("MUL", p.take(x, p.ints(index), axis), factor)
        total = part if total is None else p.binary("ADD", total, part)
    assert total is not None
    return total

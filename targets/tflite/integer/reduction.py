"""Pooling and reductions.

SUM is that of the runtime's optimized kernel: its reference kernel (LiteRT 2.3) takes int8 elements for uint8 ones.
"""

from __future__ import annotations

import math

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.fixed import Factor, divided, factor, round_away, times
from targets.tflite.integer.kernel import INT8_16, Kernel, Node
from targets.tflite.integer.windows import Window, windows


def _average_pool(node: Node) -> Array:
    """The padding counts neither in the sum nor in the number of elements."""
    x = node.value().astype(np.int64)
    window = Window.of(node, (node.option("FilterHeight", 1), node.option("FilterWidth", 1)))
    total = sum(piece for _, piece in windows(x, window, 0))
    count = sum(piece for _, piece in windows(np.ones((1, *x.shape[1:3], 1), np.int64), window, 0))
    return node.clamped(divided(np.asarray(total), np.asarray(count)))


def _max_pool(node: Node) -> Array:
    window = Window.of(node, (node.option("FilterHeight", 1), node.option("FilterWidth", 1)))
    pieces = [piece for _, piece in windows(node.value(), window, np.iinfo(node.value().dtype).min)]
    return node.clamped(np.maximum.reduce(pieces))


def _axes(node: Node) -> tuple[int, ...]:
    return tuple(sorted({axis % node.value().ndim for axis in node.ints(1)}))


def _mean(node: Node) -> Array:
    """The factor that requantizes is divided by the number of elements, truncated, before it is applied to the sum."""
    total, count = _total(node)
    mantissa, shift = factor(np.float64(node.scale()) / np.float64(node.result_scale()))
    more = min(count.bit_length() - 1, 32, 31 + int(shift))
    by = Factor(np.asarray((int(mantissa) << more) // count), shift - more)
    return node.clamped(times(total, by) + node.result_zero_point())


def _sum(node: Node) -> Array:
    total, _ = _total(node)
    if node.is_wide:
        return node.clamped(round_away(total.astype(np.float32) * (node.scale() / node.result_scale())))
    by = factor(np.float64(node.scale()) / np.float64(node.result_scale()))
    return node.clamped(times(total, by) + node.result_zero_point())


def _total(node: Node) -> tuple[Array, int]:
    """The sum over the axes, and of how many elements it is."""
    x, axes = node.shifted(), _axes(node)
    total = x.sum(axis=axes, keepdims=bool(node.option("KeepDims", False)))
    return np.asarray(total), math.prod(x.shape[a] for a in axes)


def _reduce_max(node: Node) -> Array:
    return np.asarray(node.value().max(axis=_axes(node), keepdims=bool(node.option("KeepDims", False))))


def _reduce_min(node: Node) -> Array:
    return np.asarray(node.value().min(axis=_axes(node), keepdims=bool(node.option("KeepDims", False))))


def _arg_max(node: Node) -> Array:
    return _numbers(node, node.value().argmax(axis=node.ints(1)[0]))


def _arg_min(node: Node) -> Array:
    return _numbers(node, node.value().argmin(axis=node.ints(1)[0]))


def _numbers(node: Node, places: Array) -> Array:
    return np.asarray(places).astype(np.int32 if node.result().dtype == "INT32" else np.int64)


def _top_k(node: Node) -> tuple[Array, Array]:
    """Along the last axis, the greatest first; of equal ones the first."""
    order = np.argsort(-node.value().astype(np.int64), axis=-1, kind="stable")[..., : node.ints(1)[0]]
    return np.take_along_axis(node.value(), order, axis=-1), order.astype(np.int32)


KERNELS = {
    "AVERAGE_POOL_2D": Kernel(_average_pool, INT8_16),
    "MAX_POOL_2D": Kernel(_max_pool, INT8_16),
    "MEAN": Kernel(_mean, INT8_16),
    "SUM": Kernel(_sum, INT8_16),
    "REDUCE_MAX": Kernel(_reduce_max, INT8_16),
    "REDUCE_MIN": Kernel(_reduce_min, INT8_16),
    "ARG_MAX": Kernel(_arg_max),
    "ARG_MIN": Kernel(_arg_min),
    "TOPK_V2": Kernel(_top_k),
}

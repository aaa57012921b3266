"""Convolutions and products of matrices: int32 sums of int8 products, requantized once.

The real factor is computed in double from float32 scales, per channel where the weights have a scale for each; the
product of the scales of FULLY_CONNECTED and BATCH_MATMUL is as the runtime takes it, see `_product_factor`.
"""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.fixed import Factor, factor, times, times_once, wrapped
from targets.tflite.integer.kernel import Kernel, Node
from targets.tflite.integer.windows import Window, windows

LARGEST_PRODUCT = 255 * 255
EXACT_IN_FLOAT32 = 2**24


def exact_product(a: Array, b: Array) -> Array:
    """a @ b of integers within 255, in floating point without rounding; float64."""
    exact = a.shape[-1] * LARGEST_PRODUCT < EXACT_IN_FLOAT32
    kind = np.float32 if exact else np.float64
    return np.matmul(a.astype(kind), b.astype(kind)).astype(np.float64)


def _conv_2d(node: Node) -> Array:
    """Input NHWC, weights OHWI with I = C / groups."""
    x, w = node.shifted(), node.value(1)
    window = Window.of(node, w.shape[1:3])
    groups = x.shape[3] // w.shape[3]
    lanes, parts = x.shape[3] // groups, w.shape[0] // groups
    sums = np.zeros((len(x), *window.outputs(x.shape[1:3]), w.shape[0]))
    for (i, j), piece in windows(x, window, 0):
        for g in range(groups):
            out = slice(g * parts, (g + 1) * parts)
            sums[..., out] += exact_product(piece[..., g * lanes : (g + 1) * lanes], w[out, i, j].T)
    return _requantized(node, sums, _channel_factor(node))


def _depthwise_conv_2d(node: Node) -> Array:
    """Input NHWC, weights 1HWO; output channel o reads the input channel o / multiplier."""
    x, w = node.shifted().astype(np.int32), node.value(1).astype(np.int32)
    window = Window.of(node, w.shape[1:3])
    multiplier = w.shape[3] // x.shape[3]
    sums = np.zeros((len(x), *window.outputs(x.shape[1:3]), w.shape[3]), np.int32)
    for (i, j), piece in windows(x, window, 0):
        sums += np.repeat(piece, multiplier, axis=3) * w[0, i, j] if multiplier > 1 else piece * w[0, i, j]
    return _requantized(node, sums, _channel_factor(node))


def _transpose_conv(node: Node) -> Array:
    """Operands: output shape, weights OHWI, input, perhaps bias."""
    batch, height, width, channels = node.ints(0)
    w, x = node.value(1), node.shifted(2)
    window = Window.of(node, w.shape[1:3])
    (top, _), (left, _) = window.padding((height, width))
    rows, columns = ((n - 1) * s + k for n, s, k in zip(x.shape[1:3], window.strides, w.shape[1:3], strict=True))
    sums = np.zeros((batch, max(rows, top + height), max(columns, left + width), channels))
    down, right = window.strides
    for i in range(w.shape[1]):
        for j in range(w.shape[2]):
            place = sums[:, i : i + x.shape[1] * down : down, j : j + x.shape[2] * right : right]
            place[:, : x.shape[1], : x.shape[2]] += exact_product(x, w[:, i, j].T)
    return _requantized(node, sums[:, top : top + height, left : left + width], _channel_factor(node, 2), 3)


def _fully_connected(node: Node) -> Array:
    w = node.value(1).astype(np.int64)
    if len(node.scales_of(node.tensor(1))) == 1:
        w, by = w - node.zero_point(1), _product_factor(node)
    else:
        by = _channel_factor(node)
    x = node.shifted().reshape(-1, w.shape[1])
    total = _accumulated(node, exact_product(x, w.T), 2)
    return node.clamped(times_once(total, by) + node.result_zero_point()).reshape(node.result().shape)


def _batch_matmul(node: Node) -> Array:
    left, right = node.shifted(0), node.shifted(1)
    left = left.swapaxes(-1, -2) if node.option("AdjX", False) else left
    right = right.swapaxes(-1, -2) if node.option("AdjY", False) else right
    sums = exact_product(left, right)
    return node.clamped(times(sums.astype(np.int64), _product_factor(node)) + node.result_zero_point())


def _requantized(node: Node, sums: Array, by: Factor, bias: int = 2) -> Array:
    return node.clamped(times(_accumulated(node, sums, bias), by) + node.result_zero_point())


def _accumulated(node: Node, sums: Array, bias: int) -> Array:
    """The sums with the bias, if there is one, as int32 holds them."""
    total = sums.astype(np.int64)
    return wrapped(total + node.value(bias).astype(np.int64) if node.has(bias) else total)


def _channel_factor(node: Node, source: int = 0) -> Factor:
    scales = node.scales_of(node.tensor(1)).astype(np.float64)
    return factor(np.float64(node.scale(source)) * scales / np.float64(node.result_scale()))


def _product_factor(node: Node) -> Factor:
    """Of one scale for each operand, whose product is rounded to float32."""
    return factor(np.float64(node.scale(0) * node.scale(1)) / np.float64(node.result_scale()))


KERNELS = {
    "CONV_2D": Kernel(_conv_2d),
    "DEPTHWISE_CONV_2D": Kernel(_depthwise_conv_2d),
    "TRANSPOSE_CONV": Kernel(_transpose_conv, frozenset(("INT32",))),
    "FULLY_CONNECTED": Kernel(_fully_connected),
    "BATCH_MATMUL": Kernel(_batch_matmul),
}

"""Convolutions and products of matrices: sums of products, requantized once.

Of int8 operands the sums have 32 bits, of int16 ones 64 bits, unless the operator's quantized bias type says INT32.
The real factor is computed in double from float32 scales, per channel where the weights have a scale for each; for
BATCH_MATMUL the product of the scales is rounded to float32, as by the runtime.
"""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.fixed import Factor, factor, times, times_real, times_wide, wrapped
from targets.tflite.integer.kernel import INT8_16, Kernel, Node
from targets.tflite.integer.windows import Window, windows

BIAS_OF_32_BITS = 2  # INT32 in the schema's enumeration of types
EXACT_IN_FLOAT32 = 2**24


def exact_product(a: Array, b: Array) -> Array:
    """a @ b of integers of at most 16 bits, in floating point without rounding; float64."""
    largest = a.shape[-1] * int(np.abs(a).max(initial=0)) * int(np.abs(b.astype(np.int64)).max(initial=0))
    kind = np.float32 if largest < EXACT_IN_FLOAT32 else np.float64
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
    kind = np.int64 if node.is_wide else np.int32
    x, w = node.shifted().astype(kind), node.value(1).astype(kind)
    window = Window.of(node, w.shape[1:3])
    multiplier = w.shape[3] // x.shape[3]
    sums = np.zeros((len(x), *window.outputs(x.shape[1:3]), w.shape[3]), kind)
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
    """Requantized by the real factor, without a mantissa."""
    w = node.value(1).astype(np.int64)
    if len(node.scales_of(node.tensor(1))) == 1:
        w = w - node.zero_point(1)
    x = node.shifted().reshape(-1, w.shape[1])
    total = _accumulated(node, exact_product(x, w.T), 2)
    scaled = times_real(total, _channel_scales(node)) + node.result_zero_point()
    return node.clamped(scaled).reshape(node.result().shape)


def _batch_matmul(node: Node) -> Array:
    left, right = node.shifted(0), node.shifted(1)
    left = left.swapaxes(-1, -2) if node.option("AdjX", False) else left
    right = right.swapaxes(-1, -2) if node.option("AdjY", False) else right
    sums = exact_product(left, right).astype(np.int64)
    by = factor(np.float64(node.scale(0) * node.scale(1)) / np.float64(node.result_scale()))
    return node.clamped((times_wide if node.is_wide else times)(sums, by) + node.result_zero_point())


def _requantized(node: Node, sums: Array, by: Factor, bias: int = 2) -> Array:
    scaled = times_wide if _sums_have_64_bits(node, bias) else times
    return node.clamped(scaled(_accumulated(node, sums, bias), by) + node.result_zero_point())


def _accumulated(node: Node, sums: Array, bias: int) -> Array:
    """The sums with the bias, if there is one, as int32 or int64 holds them."""
    total = sums.astype(np.int64)
    total = total + node.value(bias).astype(np.int64) if node.has(bias) else total
    if _sums_have_64_bits(node, bias):
        return total
    if node.is_wide and (total != wrapped(total)).any():
        raise node.refused("has sums of 16-bit elements that overflow 32 bits, which leaves their value undefined")
    return wrapped(total)


def _sums_have_64_bits(node: Node, bias: int) -> bool:
    """Of 16-bit operands, by the operator's option; the runtime takes a bias for that type, whatever type it has."""
    long = node.is_wide and node.option("QuantizedBiasType") != BIAS_OF_32_BITS
    due = "INT64" if long else "INT32"
    if node.has(bias) and node.tensor(bias).dtype != due:
        raise node.refused(f"has a bias of {node.tensor(bias).dtype} elements, which the runtime reads as {due} ones")
    return long


def _channel_factor(node: Node, source: int = 0) -> Factor:
    return factor(_channel_scales(node, source))


def _channel_scales(node: Node, source: int = 0) -> Array:
    """What one unit of a sum is in units of the result, float64; one number, or one for each channel."""
    scales = node.scales_of(node.tensor(1)).astype(np.float64)
    return np.float64(node.scale(source)) * scales / np.float64(node.result_scale())


KERNELS = {
    "CONV_2D": Kernel(_conv_2d, INT8_16),
    "DEPTHWISE_CONV_2D": Kernel(_depthwise_conv_2d, INT8_16),
    "TRANSPOSE_CONV": Kernel(_transpose_conv, frozenset(("INT32",))),
    "FULLY_CONNECTED": Kernel(_fully_connected, INT8_16),
    "BATCH_MATMUL": Kernel(_batch_matmul, INT8_16),
}

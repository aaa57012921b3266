"""Activations in fixed point: rectifiers, softmax, hard swish."""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer import lookup
from targets.tflite.integer.exponential import exp_negative, reciprocal_of_one_plus
from targets.tflite.integer.fixed import (
    INT32_MAX,
    factor,
    high_product,
    leading_zeros,
    rounded_shift,
    saturated,
    times,
    truncated,
)
from targets.tflite.integer.kernel import INT8, INT8_16, Kernel, Node, radius

SOFTMAX_BITS = 5
SUM_BITS = 12
LARGEST_SUM = 512  # times the greatest exponential
SWISH_BITS = 7


def _rectifier(low: float, high: float | None, types: frozenset[str] = INT8) -> Kernel:
    def rectified(node: Node) -> Array:
        x = times(node.shifted(), factor(node.scale() / node.result_scale())) + node.result_zero_point()
        return np.clip(x, *node.limits_between(low, high)).astype(node.value().dtype)

    return Kernel(rectified, types)


def _leaky_relu(node: Node) -> Array:
    x, scale = node.shifted(), node.scale()
    positive = times(x, factor(scale / node.result_scale()))
    negative = times(x, factor(scale * np.float32(node.option("Alpha", 0.0)) / node.result_scale()))
    return node.clamped(np.where(x >= 0, positive, negative) + node.result_zero_point())


def _prelu(node: Node) -> Array:
    x, slope = node.shifted(), node.shifted(1)
    positive = times(x, factor(node.scale() / node.result_scale()))
    negative = times(x * slope, factor(node.scale() * node.scale(1) / node.result_scale()))
    return node.clamped(np.where(x >= 0, positive, negative) + node.result_zero_point())


def _softmax(node: Node) -> Array:
    """Along the last axis; results are in units of 1/256, from -128, or of 2**-15, from 0."""
    if node.is_wide:
        return lookup.softmax(node)
    x = node.value().astype(np.int64)
    scaling = np.float64(np.float32(node.option("Beta", 1.0))) * np.float64(node.scale())
    by = factor(min(scaling * 2.0 ** (31 - SOFTMAX_BITS), 2.0**31 - 1))
    lowest = -radius(SOFTMAX_BITS, int(by.shift))
    difference = x - x.max(axis=-1, keepdims=True)
    counts = difference >= lowest
    exps = np.where(counts, exp_negative(times(np.maximum(difference, lowest), by), SOFTMAX_BITS), 0)
    total = rounded_shift(exps, SUM_BITS).sum(axis=-1, keepdims=True)
    if (total >= LARGEST_SUM << (31 - SUM_BITS)).any():
        raise node.refused(f"has exponentials that add up to {LARGEST_SUM} or more, where the runtime stops")
    headroom = leading_zeros(total)
    reciprocal = reciprocal_of_one_plus((total << headroom) - (1 << 31))
    result = rounded_shift(high_product(reciprocal, exps), SUM_BITS - headroom + 31 - 8) - 128
    return np.where(counts, np.clip(result, -128, 127), -128).astype(np.int8)


def _hard_swish(node: Node) -> Array:
    """In 16 bits: x * relu6(x + 3) / 6, the second factor as a fraction of 2**15."""
    fine = node.scale() * np.float32(1 / 128)
    output, output_shift = _half_factor(fine / node.result_scale())
    gate, gate_shift = _half_factor(fine / np.float32(3 / 32768))
    if not (-16 < output_shift <= 0 and gate_shift > -16):
        raise node.refused("has scales that differ too much for 16 bits")
    x = node.shifted() << SWISH_BITS
    scaled = high_product(x, output, 16)
    y = saturated(x << max(gate_shift - 1, 0), 16)
    y = high_product(y, gate, 16)
    y = saturated(y << 1, 16) if gate_shift > 0 else rounded_shift(y, -gate_shift)
    y = (y + (1 << 15)) >> 1
    product = np.minimum(truncated(y * scaled, 1 << 15), (1 << 15) - 1)
    return node.clamped(rounded_shift(product, -output_shift) + node.result_zero_point())


def _half_factor(real: np.float32) -> tuple[int, int]:
    """A mantissa in Q15 and a shift."""
    mantissa, shift = factor(real)
    rounded = (int(mantissa) + (1 << 15)) >> 16
    return (1 << 15) - 1 if int(mantissa) >= INT32_MAX - (1 << 15) else rounded, int(shift)


KERNELS = {
    "RELU": _rectifier(0.0, None, INT8_16),
    "RELU6": _rectifier(0.0, 6.0, INT8_16),
    "RELU_N1_TO_1": _rectifier(-1.0, 1.0),
    "RELU_0_TO_1": _rectifier(0.0, 1.0),
    "LEAKY_RELU": Kernel(_leaky_relu, INT8_16),
    "PRELU": Kernel(_prelu),
    "SOFTMAX": Kernel(_softmax, INT8_16),
    "HARD_SWISH": Kernel(_hard_swish),
}

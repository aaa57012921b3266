"""The natural logarithm of fixed-point numbers from 1 on, and LOG_SOFTMAX, which takes it."""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.exponential import exp_negative, reciprocal_of_one_plus
from targets.tflite.integer.fixed import (
    factor,
    high_product,
    leading_zeros,
    rounded_shift,
    saturated,
    saturated_shift,
    times,
)
from targets.tflite.integer.kernel import Kernel, Node, radius

INPUT_BITS = 5  # integer bits of differences and logarithms
SUM_BITS = 12
LOG_BITS = INPUT_BITS + 1  # while it is added up
RESULT_BITS = 4
ROOT_2 = 2.0**0.25


def _q31(real: float) -> int:
    return round(real * 2**31)


LOG_2, ROOT_HALF, HALF_ROOT = _q31(float(np.log(2))), _q31(0.5**0.5), _q31(0.5**0.25)
NUMERATOR = _q31(11 / 240 * ROOT_2)
DENOMINATOR = _q31(2 / ROOT_2 - ROOT_2), _q31(0.25 * ROOT_2), _q31(0.05 * ROOT_2)


def logarithm(x: Array, integer_bits: int) -> Array:
    """log(x) in Q5 of x >= 1 in Q(integer_bits), both of 32 bits.

    x is a power of two times a mantissa near 1, by one of two ways to split it; the logarithm of the mantissa is a
    quotient of polynomials.
    """
    quarter = 1 << (31 - LOG_BITS - 2)
    headroom = leading_zeros(x)
    normal = saturated(high_product(saturated(x << (headroom - 1)), ROOT_HALF) << 1)
    power = saturated(((integer_bits - headroom) << (31 - LOG_BITS)) + quarter)
    other_headroom = leading_zeros(high_product(x, ROOT_HALF)) - 1
    other = saturated(x << other_headroom)
    other_power = saturated(((integer_bits - other_headroom) << (31 - LOG_BITS)) - quarter)
    log = _log_of_mantissa(np.minimum(normal, other))
    return saturated_shift(high_product(np.maximum(power, other_power), LOG_2) + log, LOG_BITS - INPUT_BITS)


def _log_of_mantissa(r: Array) -> Array:
    """In Q6."""
    constant, linear, square = DENOMINATOR
    half_sum = (r + HALF_ROOT + 1) // 2
    q = 2 * (r - HALF_ROOT)
    q2 = high_product(q, q)
    numerator = high_product(q, r) + high_product(high_product(q, q2), NUMERATOR)
    denominator = high_product(half_sum, constant + q + high_product(q2, square)) + high_product(q, linear)
    return high_product(saturated_shift(numerator, -LOG_BITS), reciprocal_of_one_plus(denominator))


def _log_softmax(node: Node) -> Array:
    """Along the last axis; results are in units of 1/16, from 127 down."""
    x = node.value().astype(np.int64)
    by = factor(min(np.float64(node.scale()) * 2.0 ** (31 - INPUT_BITS), 2.0**31 - 1))
    back = factor(2.0 ** (31 - int(by.shift)) / float(by.mantissa))
    lowest = -radius(INPUT_BITS, int(by.shift))
    difference = x - x.max(axis=-1, keepdims=True)
    fine = times(np.maximum(difference, lowest), by)
    exps = np.where(difference >= lowest, rounded_shift(exp_negative(fine, INPUT_BITS), SUM_BITS), 0)
    total = exps.sum(axis=-1, keepdims=True)
    if (total >= 2**31).any():
        raise node.refused("has sums of exponentials that overflow 32 bits")
    log = logarithm(total, SUM_BITS)
    least = np.maximum(lowest - 1, times(log - 2**31, back))
    result = rounded_shift(fine - log, 31 - INPUT_BITS - RESULT_BITS) + 127
    return np.where(difference > least, np.clip(result, -128, 127), -128).astype(np.int8)


KERNELS = {"LOG_SOFTMAX": Kernel(_log_softmax)}

"""exp, the logistic function and tanh on fixed-point numbers, in 32 or 16 bits.

A number in Q(i) of `bits` bits is an integer times 2**(i + 1 - bits). The methods are those of the specification's
fixed-point library: a Taylor polynomial on a quarter and a product of tabulated powers for exp, three Newton-Raphson
steps for 1 / (1 + x).
"""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.fixed import high_product, rounded_shift, saturated_shift

# exp(-2**k) in Q0.31, for k = -2, -1, ...
POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
EXP_EIGHTH = 1895147668  # exp(-1/8)
THIRD = 715827883
TWO_PLUS = 1515870810  # 48/17 in Q2.29
SLOPE = -1010580540  # -32/17 in Q2.29


def exp_negative(a: Array, integer_bits: int, bits: int = 32) -> Array:
    """exp(a) in Q0 of a <= 0 in Q(integer_bits)."""
    fraction = bits - 1 - integer_bits
    quarter = 1 << (fraction - 2)
    rest = (a & (quarter - 1)) - quarter
    result = _exp_quarter(saturated_shift(rest, integer_bits, bits), bits)
    remainder = rest - a
    for power, value in enumerate(POWERS, -2):
        if integer_bits > power:
            chosen = (remainder >> (fraction + power)) & 1
            result = np.where(chosen == 1, high_product(result, _constant(value, bits), bits), result)
    if integer_bits > 5:
        result = np.where(a < -(1 << (fraction + 5)), 0, result)
    return np.where(a == 0, (1 << (bits - 1)) - 1, result)


def _exp_quarter(a: Array, bits: int) -> Array:
    """exp(a) of -1/4 <= a < 0, all in Q0, around -1/8."""
    x = a + (1 << (bits - 4))
    x2 = high_product(x, x, bits)
    x3, x4 = high_product(x2, x, bits), high_product(x2, x2, bits)
    tail = high_product(rounded_shift(x4, 2) + x3, _constant(THIRD, bits), bits) + x2
    base = _constant(EXP_EIGHTH, bits)
    result = base + high_product(x + rounded_shift(tail, 1), base, bits)
    return np.minimum(result, (1 << (bits - 1)) - 1)


def _newton(a: Array, bits: int) -> Array:
    """2 / (1 + a) in Q2, of 0 <= a <= 1 in Q0."""
    total = a + ((1 << (bits - 1)) - 1)
    half = (total + 1) // 2
    one = 1 << (bits - 3)
    x = _constant(TWO_PLUS, bits) + high_product(half, _constant(SLOPE, bits), bits)
    for _ in range(3):
        x = x + saturated_shift(high_product(x, one - high_product(half, x, bits), bits), 2, bits)
    return x


def reciprocal_of_one_plus(a: Array, bits: int = 32) -> Array:
    """1 / (1 + a) in Q0, of 0 <= a <= 1 in Q0."""
    return saturated_shift(_newton(a, bits), 1, bits)


def logistic(a: Array, integer_bits: int, bits: int = 32) -> Array:
    """1 / (1 + exp(-a)) in Q0 of a in Q(integer_bits)."""
    positive = reciprocal_of_one_plus(exp_negative(-np.abs(a), integer_bits, bits), bits)
    result = np.where(a > 0, positive, (1 << (bits - 1)) - 1 - positive)
    return np.where(a == 0, 1 << (bits - 2), result)


def tanh(a: Array, integer_bits: int, bits: int = 32) -> Array:
    """Q0 of a in Q(integer_bits)."""
    x = _newton(exp_negative(-np.abs(a), integer_bits + 1, bits), bits)
    result = saturated_shift(x - (1 << (bits - 3)), 2, bits)
    return np.where(a == 0, 0, np.where(a < 0, -result, result))


def _constant(value: int, bits: int) -> int:
    """A constant in 32 bits, in `bits`, rounded half away from zero."""
    return int(rounded_shift(np.asarray(value), 32 - bits))

"""Fixed-point arithmetic of the 8-bit specification, vectorised: int64 arrays that hold int32 values.

A real factor is a mantissa in Q31 and a shift: factor = mantissa * 2**(shift - 31). Nearly all of the runtime's
reference kernels (LiteRT 2.3) round a product twice: the doubling high half of mantissa times value (half up), then
the right shift (half away from zero). FULLY_CONNECTED multiplies by the real factor, in double.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from compiler.tensor import Array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

INT32_MAX = 2**31 - 1
SMALLEST = -31  # a factor that needs a shift below this one is nought


class Factor(NamedTuple):
    """Mantissas in Q31 and shifts (positive: to the left), of one shape."""

    mantissa: Array
    shift: Array


def factor(real: ArrayLike) -> Factor:
    """Factors nearest to real numbers; below 2**-32 they are 0."""
    fraction, shift = np.frexp(np.asarray(real, np.float64))
    mantissa = round_away(fraction * 2.0**31).astype(np.int64)
    overflows = np.abs(mantissa) == 2**31
    mantissa, shift = np.where(overflows, mantissa // 2, mantissa), shift.astype(np.int64) + overflows
    tiny = shift < SMALLEST
    return Factor(np.where(tiny, 0, mantissa), np.where(tiny, 0, shift))


def times(values: Array, by: Factor) -> Array:
    """The values times the factor, rounded twice, as int32 values; a shift to the left wraps around as in int32."""
    shifted = wrapped(values.astype(np.int64) << np.maximum(by.shift, 0))
    return rounded_shift(high_product(shifted, by.mantissa), np.maximum(-by.shift, 0))


def times_real(values: Array, by: ArrayLike) -> Array:
    """The values times real numbers, in float64, rounded half away from zero: the kernels of FULLY_CONNECTED."""
    return round_away(values.astype(np.float64) * np.asarray(by, np.float64)).astype(np.int64)


def times_wide(values: Array, by: Factor) -> Array:
    """Values of up to 48 bits times the factor, whose mantissa is rounded to 15 bits: the kernels of 16-bit operands
    with sums of 64 bits. Rounded once, half up."""
    short = np.where(by.mantissa < 0x7FFF0000, (by.mantissa + (1 << 15)) >> 16, 0x7FFF)
    right = 15 - by.shift
    return (values.astype(np.int64) * short + (np.int64(1) << (right - 1))) >> right


def high_product(a: Array, b: ArrayLike, bits: int = 32) -> Array:
    """round(2 * a * b / 2**bits), half up, saturated: the product of two fractions in Q(bits-1)."""
    half = np.int64(1) << (bits - 2)
    return np.minimum((a * np.asarray(b, np.int64) + half) >> (bits - 1), (1 << (bits - 1)) - 1)


def rounded_shift(values: Array, by: ArrayLike) -> Array:
    """values / 2**by, rounded half away from zero."""
    by = np.asarray(by, np.int64)
    half = np.where(by > 0, np.int64(1) << np.maximum(by - 1, 0), 0)
    return (values + half - ((values < 0) & (by > 0))) >> by


def saturated_shift(values: Array, by: int, bits: int = 32) -> Array:
    """values * 2**by: rounded half away from zero to the right, saturated to the left."""
    if by <= 0:
        return rounded_shift(values, -by)
    return saturated(values << by, bits)


def saturated(values: Array, bits: int = 32) -> Array:
    """Limited to signed integers of `bits`."""
    return np.clip(values, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def wrapped(values: Array) -> Array:
    """The values as an int32 accumulator holds them."""
    return values.astype(np.int32).astype(np.int64)


def round_away(values: Array) -> Array:
    """Rounded to integers, half away from zero, in the floating type that they have."""
    whole = np.trunc(values)
    with np.errstate(invalid="ignore"):  # of infinite values, which stay
        return np.asarray(whole + np.where(np.abs(values - whole) >= 0.5, np.sign(values), 0), values.dtype)


def divided(values: Array, by: ArrayLike) -> Array:
    """values / by, rounded half away from zero; `by` is positive."""
    by = np.asarray(by, np.int64)
    return truncated(values + np.where(values > 0, by // 2, -(by // 2)), by)


def truncated(values: Array, by: ArrayLike) -> Array:
    """values / by, rounded towards zero; `by` is positive."""
    return np.sign(values) * (np.abs(values) // by)


def leading_zeros(values: Array) -> Array:
    """How many, in the 32-bit words of positive values."""
    return np.int64(32) - np.frexp(values.astype(np.float64))[1]


def inverse_root(values: Array) -> Factor:
    """1 / sqrt(values) of non-negative int32 values by five Newton steps in Q3.28; 1 for 0 and 1."""
    x = np.maximum(values, 2)
    shift = np.full(x.shape, 11, np.int64)
    while (large := x >= 1 << 29).any():
        x, shift = np.where(large, x // 4, x), shift + large
    pairs = (leading_zeros(x) - 1) // 2 - 1
    x, shift = x << (2 * pairs), shift - pairs
    half = rounded_shift(x >> 1, 1)
    root = np.full(x.shape, 1 << 28, np.int64)
    for _ in range(5):
        cube = saturated_shift(high_product(high_product(root, root), root), 6)
        root = saturated_shift(high_product(root, (1 << 28) + (1 << 27)) - high_product(half, cube), 3)
    root = high_product(root, 1518500250)  # sqrt(1/2)
    root, shift = np.where(shift < 0, root << np.maximum(-shift, 0), root), np.maximum(shift, 0)
    return Factor(np.where(values <= 1, INT32_MAX, root), np.where(values <= 1, 0, -shift))

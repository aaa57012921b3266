"""Fixed-point arithmetic against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from targets.tflite.integer.exponential import exp_negative, logistic, reciprocal_of_one_plus, tanh
from targets.tflite.integer.fixed import (
    Factor,
    divided,
    factor,
    high_product,
    inverse_root,
    leading_zeros,
    round_away,
    rounded_shift,
    saturated_shift,
    times,
    times_real,
    times_wide,
)
from targets.tflite.integer.logarithm import logarithm

INT32 = st.integers(-(2**31), 2**31 - 1)
SUMS = st.integers(-(2**29), 2**29)  # what layers accumulate
SCALES = st.floats(2.0**-20, 8.0, width=32)
HALF = Fraction(1, 2)


def up(value: Fraction) -> int:
    """Rounded, half up."""
    return math.floor(value + HALF)


def away(value: Fraction) -> int:
    """Rounded, half away from zero."""
    return up(value) if value >= 0 else -up(-value)


def exact(by: Factor) -> Fraction:
    return Fraction(int(by.mantissa)) * Fraction(2) ** (int(by.shift) - 31)


def one(value: int) -> np.ndarray:
    return np.array([value], np.int64)


@given(st.floats(2.0**-31, 2.0**30))
def test_factor_is_the_nearest_with_31_bits(real: float) -> None:
    by = factor(real)
    assert 2**30 <= int(by.mantissa) < 2**31
    assert abs(exact(by) - Fraction(real)) <= Fraction(2) ** (int(by.shift) - 32)


@pytest.mark.parametrize(("real", "mantissa", "shift"), [(0.0, 0, 0), (1.0, 2**30, 1), (2.0**-33, 0, 0)])
def test_factor_at_the_ends(real: float, mantissa: int, shift: int) -> None:
    by = factor(real)
    assert (int(by.mantissa), int(by.shift)) == (mantissa, shift)


def test_factor_that_rounds_up_to_a_power_of_two() -> None:
    by = factor(1 - 2.0**-40)
    assert (int(by.mantissa), int(by.shift)) == (2**30, 1)


@given(SUMS, SCALES, SCALES, SCALES)
def test_real_factors_are_exact_but_for_what_double_loses(
    total: int, source: float, weight: float, result: float
) -> None:
    """Three roundings to 53 bits, then one to a whole number, half away from zero."""
    found = int(times_real(one(total), np.float64(source) * weight / result)[0])
    real = total * Fraction(source) * Fraction(weight) / Fraction(result)
    assert abs(found - real) <= HALF + abs(real) * Fraction(1, 2**51)


@given(st.floats(-(2.0**40), 2.0**40), st.sampled_from([np.float32, np.float64]))
@example(0.49999999999999994, np.float64)
@example(0.49999997, np.float32)
@example(8388609.0, np.float32)
@example(-2.5, np.float32)
def test_rounds_half_away_from_zero(value: float, kind: type[np.floating]) -> None:
    x = np.asarray(value, kind)
    assert int(round_away(x)) == away(Fraction(float(x)))
    assert round_away(x).dtype == kind


@given(st.integers(2**19, 2**31 - 1))
@example(2**19)
@example(2**31 - 1)
def test_logarithm(x: int) -> None:
    """Of numbers in Q12, from 1 on: within 2**-24."""
    assert logarithm(one(x), 12)[0] / 2**26 == pytest.approx(math.log(x / 2**19), abs=2**-24)


@given(SUMS, SCALES, SCALES, SCALES)
def test_two_roundings_are_exact_but_next_to_a_half(total: int, source: float, weight: float, result: float) -> None:
    """With a shift of r to the right the first rounding moves the product by at most 2**-(r+1): the result is the
    exact product rounded half away from zero wherever that is farther from a half than this, else one of its two
    neighbours."""
    assume(source * weight / result < 1)
    by = factor(np.float64(source) * weight / result)
    product = total * exact(by)
    found = int(times(one(total), by)[0])
    right = -int(by.shift)
    moved = Fraction(1, 2 ** (right + 1)) if right else Fraction(0)
    assert found == away(Fraction(up(total * Fraction(int(by.mantissa), 2**31)), 2**right))
    assert abs(found - product) <= HALF + moved
    if abs(abs(product) % 1 - HALF) > moved:
        assert found == away(product)


def test_two_roundings_differ_from_one() -> None:
    """7.25 becomes 14.5 halves, 15 halves, and 8."""
    by = factor(0.25)
    assert (times(one(29), by).tolist(), times_real(one(29), 0.25).tolist()) == ([8], [7])


@given(st.integers(-(2**20), 2**20), st.floats(1.0, 512.0, width=32))
def test_factors_above_one_round_once(total: int, real: float) -> None:
    by = factor(real)
    assert int(times(one(total), by)[0]) == up(total * exact(by))


@given(INT32, INT32)
def test_high_product(a: int, b: int) -> None:
    assert int(high_product(one(a), b)[0]) == min(up(Fraction(a * b, 2**31)), 2**31 - 1)


@given(INT32, st.integers(0, 31))
def test_rounded_shift(value: int, by: int) -> None:
    assert int(rounded_shift(one(value), by)[0]) == away(Fraction(value, 2**by))


@given(INT32, st.integers(-31, 20))
def test_saturated_shift(value: int, by: int) -> None:
    expected = away(value * Fraction(2) ** by)
    assert int(saturated_shift(one(value), by)[0]) == min(max(expected, -(2**31)), 2**31 - 1)


@given(INT32, st.integers(1, 2**16))
def test_divided(value: int, by: int) -> None:
    """Rounded half away from zero; an odd divisor has no halves."""
    assert int(divided(one(value), by)[0]) == away(Fraction(value, by))


@given(st.integers(1, 2**31 - 1))
def test_leading_zeros(value: int) -> None:
    assert int(leading_zeros(one(value))[0]) == 32 - value.bit_length()


@given(st.integers(2, 2**31 - 1))
def test_inverse_root(value: int) -> None:
    by = inverse_root(one(value))
    found = int(by.mantissa[0]) * 2.0 ** (int(by.shift[0]) - 31)
    assert found == pytest.approx(value**-0.5, rel=2e-6)


@given(st.integers(-(2**31) + 1, -1))
def test_exp(a: int) -> None:
    assert exp_negative(one(a), 5)[0] / 2**31 == pytest.approx(math.exp(a / 2**26), abs=3e-7)


@given(st.integers(0, 2**31 - 1))
def test_reciprocal(a: int) -> None:
    assert reciprocal_of_one_plus(one(a))[0] / 2**31 == pytest.approx(1 / (1 + a / 2**31), abs=2e-8)


@given(st.integers(-(2**31) + 1, 2**31 - 1))
def test_sigmoids(a: int) -> None:
    x = a / 2**27
    assert logistic(one(a), 4)[0] / 2**31 == pytest.approx(1 / (1 + math.exp(-x)), abs=1e-7)
    assert tanh(one(a), 4)[0] / 2**31 == pytest.approx(math.tanh(x), abs=2e-7)


def test_sigmoids_of_all_numbers_in_16_bits() -> None:
    a = np.arange(-(2**15) + 1, 2**15, dtype=np.int64)
    x = a / 2**12
    np.testing.assert_allclose(logistic(a, 3, 16) / 2**15, 1 / (1 + np.exp(-x)), atol=4e-4)
    np.testing.assert_allclose(tanh(a, 3, 16) / 2**15, np.tanh(x), atol=8e-4)


@given(st.integers(-(2**47), 2**47 - 1), SCALES, SCALES, SCALES)
def test_sums_of_48_bits_are_rounded_once(total: int, source: float, weight: float, result: float) -> None:
    """Half up, of the sum times a factor with 15 bits: off the real one by 2**-16 of it, at its largest by 2**-15."""
    assume(source * weight / result < 1)
    by = factor(np.float64(source) * weight / result)
    short = min((int(by.mantissa) + (1 << 15)) >> 16, 0x7FFF)
    found = int(times_wide(one(total), by)[0])
    assert found == up(total * Fraction(short) * Fraction(2) ** (int(by.shift) - 15))
    real = Fraction(source) * Fraction(weight) / Fraction(result)
    assert abs(found - total * real) <= HALF + abs(total * real) * Fraction(1, 2**14)


@given(INT32, st.floats(2.0**-30, 2.0**-1), st.integers(-128, 127))
def test_a_requantized_sum_saturates_at_the_ends_of_int8(total: int, real: float, zero: int) -> None:
    """As exact arithmetic that is limited would, half a step and the second rounding off at most."""
    by = factor(real)
    found = int(np.clip(times(one(total), by) + zero, -128, 127)[0])
    product = total * exact(by) + zero
    assert -128 <= found <= 127
    assert abs(found - min(max(product, Fraction(-128)), Fraction(127))) <= 1

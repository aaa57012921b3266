"""Affine quantization: ranges, zero points, and how far a round trip is from the number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.quantize import (
    asymmetric,
    block_peaks,
    counts,
    dequantized,
    limits,
    peaks_along,
    quantized,
    represented,
    symmetric,
)
from compiler.tensor import I4, I8, I16, I32, U8, Block, DType, QuantParams

NUMBERS = st.floats(-1e6, 1e6, width=32)
EPS = 1e-5  # of float32 arithmetic, relative


@given(low=NUMBERS, high=NUMBERS, dtype=st.sampled_from([I8, U8, I16]))
def test_zero_is_stored_exactly_and_its_place_is_in_the_type(low: float, high: float, dtype: DType) -> None:
    params = asymmetric(min(low, high), max(low, high), dtype)
    first, last = limits(dtype)
    assert first <= params.zero_point[0] <= last
    assert params.scale[0] == np.float32(params.scale[0]) > 0
    assert dequantized(quantized(np.zeros(1, np.float32), params), params)[0] == 0


@given(ends=st.tuples(NUMBERS, NUMBERS), share=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_a_round_trip_within_the_range_is_half_a_step_off_at_most(
    ends: tuple[float, float], share: list[float]
) -> None:
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    params = asymmetric(low, high)
    x = np.clip(low + np.array(share) * (high - low), low, high).astype(np.float32)
    back = dequantized(quantized(x, params), params)
    assert np.abs(back - x).max() <= params.scale[0] * (0.5 + EPS * 300) + EPS * max(-low, high)


@given(low=NUMBERS, high=NUMBERS, x=st.floats(-1e9, 1e9, width=32))
def test_what_lies_outside_saturates(low: float, high: float, x: float) -> None:
    params = asymmetric(min(low, high), max(low, high))
    first, last = represented(params)
    back = float(dequantized(quantized(np.array([x], np.float32), params), params)[0])
    assert first * (1 + EPS) - 1e-30 <= back <= last * (1 + EPS) + 1e-30
    assert x >= first or back == np.float32(first)
    assert x <= last or back == np.float32(last)


@given(peaks=st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_weights_are_symmetric_and_leave_out_the_lowest_integer(peaks: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = (rng.uniform(-1, 1, (3, len(peaks))) * peaks).astype(np.float32)
    params = symmetric(peaks_along(data, 1), 1)
    stored = quantized(data, params, narrow=True)
    assert stored.dtype == np.int8 and stored.min() >= -127
    assert set(params.zero_point) == {0} and len(params.scale) == len(peaks) and min(params.scale) > 0
    steps = np.array(params.scale)
    assert (np.abs(dequantized(stored, params) - data) <= steps * (0.5 + 300 * EPS)).all()
    used = np.abs(data).max(0) > 1e-30
    assert (np.abs(stored).max(0)[used] == 127).all()


def test_a_dead_channel_has_the_scale_of_the_largest() -> None:
    assert symmetric([2.54, 0.0, 1.27], 0).scale == pytest.approx((0.02, 0.02, 0.01))
    assert symmetric([0.0, 0.0], 0).scale == (1.0, 1.0)


def test_numbers_by_hand() -> None:
    params = asymmetric(-1.0, 3.0)
    assert params == QuantParams((float(np.float32(4 / 255)),), (-64,), None, I8)
    assert asymmetric(0.0, 255.0).zero_point == (-128,)
    assert asymmetric(-255.0, 0.0).zero_point == (127,)
    assert asymmetric(2.0, 5.0) == asymmetric(0.0, 5.0)
    assert asymmetric(0.0, 0.0).scale == (1.0,)
    assert quantized(np.array([0.5, 1.5, 2.5], np.float32), QuantParams((1.0,), (0,), None, I8)).tolist() == [0, 2, 2]
    assert quantized(np.array([np.nan, np.inf, -np.inf], np.float32), params).tolist() == [-64, 127, -128]
    assert limits(I4) == (-8, 7) and limits(I8, narrow=True) == (-127, 127)


def test_a_range_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        asymmetric(-np.inf, 1.0)


def test_a_bias_keeps_all_32_bits() -> None:
    params = QuantParams((2.0**-30,), (0,), None, I32)
    assert quantized(np.array([1.234567891]), params).tolist() == [round(1.234567891 * 2**30)]


@given(
    seed=st.integers(0, 999),
    axes=st.permutations([0, 1, 2]),
    blocks=st.integers(1, 3),
    size=st.integers(1, 5),
    dtype=st.sampled_from([I4, I8]),
)
def test_a_block_is_rounded_by_half_of_its_own_step(
    seed: int, axes: list[int], blocks: int, size: int, dtype: DType
) -> None:
    dims = [0, 0, 0]
    for axis, length in zip(axes, (4, blocks * size, 3), strict=True):
        dims[axis] = length
    rng = np.random.default_rng(seed)
    data = (rng.normal(size=dims) * 10.0 ** rng.integers(-5, 5, dims)).astype(np.float32)
    block = Block(axes[1], size)
    params = symmetric(block_peaks(data, axes[0], block), axes[0], dtype, block)
    grid = counts(params, data.shape)
    assert grid == tuple({axes[0]: 4, axes[1]: blocks}.get(i, 1) for i in range(3))
    stored = quantized(data, params, narrow=True)
    steps = np.array(params.scale).reshape(grid).repeat(size, axes[1])
    assert (np.abs(dequantized(stored, params) - data) <= steps * (0.5 + 300 * EPS)).all()
    most = np.abs(stored.astype(np.int8))
    assert most.max() == limits(dtype)[1]


def test_scales_of_blocks_are_in_row_major_order() -> None:
    data = np.array([[1, -2, 3, 4], [5, 6, -7, 8]], np.float32)
    across, down = Block(1, 2), Block(0, 2)
    assert block_peaks(data, 0, across).tolist() == [2, 4, 6, 8]
    assert block_peaks(data, 1, down).tolist() == [5, 6, 7, 8]
    assert block_peaks(data, None, across).tolist() == [6, 8]
    params = symmetric([127, 254, 381, 508], 0, I8, across)
    ones = np.ones((2, 4), np.int8)
    assert dequantized(ones, params).tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]

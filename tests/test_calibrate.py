"""Histograms and observers by themselves: what must hold for any numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compiler.calibrate.histogram import BINS, HUGE, LEAST, Histogram
from compiler.calibrate.observed import Observed
from compiler.calibrate.observers import KEPT, OBSERVERS, Scheme, choose, expected_error
from compiler.errors import UsageError
from compiler.quantize import dequantized, quantized
from compiler.tensor import I8, I16, Array

NUMBERS = hnp.arrays(
    np.float32, st.integers(1, 300), elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)
).map(lambda a: np.where(np.abs(a) < LEAST, np.float32(0), a))
LIKELY = hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1000, 1000, width=32)).map(
    lambda a: np.where(np.abs(a) < LEAST, np.float32(0), a)
)
SCHEMES = [Scheme(I8), Scheme(I8, symmetric=True), Scheme(I16, symmetric=True), Scheme(I16)]


def histogram_of(*parts: Array) -> Histogram:
    h = Histogram()
    for part in parts:
        h.add(part, float(part.min()), float(part.max()))
    return h


def observed(*feeds: Array) -> Observed:
    seen = Observed()
    for feed in feeds:
        seen.update(feed)
    return seen


def same(a: Histogram, b: Histogram) -> bool:
    return a.exponent == b.exponent and a.first == b.first and np.array_equal(a.counts, b.counts)


@given(NUMBERS | LIKELY)
@example(np.zeros(3, np.float32))
@example(np.array([0.0, 1e-17, -1e-17], np.float32))
@example(np.array([-0.0, 1e30, 1e-18], np.float32))
def test_bins_hold_what_their_edges_say(numbers: Array) -> None:
    h = histogram_of(numbers)
    expected = np.histogram(numbers.astype(np.float64), np.append(h.edges[:-1], np.inf))[0]
    assert np.array_equal(h.counts, expected)
    assert h.total == len(numbers) and len(h.counts) <= BINS
    assert h.edges[0] <= numbers.min() and numbers.max() < h.edges[-1]


@given(NUMBERS | LIKELY, NUMBERS | LIKELY, NUMBERS | LIKELY)
def test_growth_and_merging_are_exact(a: Array, b: Array, c: Array) -> None:
    whole = histogram_of(np.concatenate([a, b, c]))
    assert same(histogram_of(a, b, c), whole)
    assert same(histogram_of(c, a, b), whole)
    assert same(histogram_of(a).merged(histogram_of(b, c)), whole)
    assert same(Histogram().merged(whole), whole) and same(whole.merged(Histogram()), whole)


@settings(max_examples=20)
@given(LIKELY, LIKELY)
def test_streaming_is_one_batch(a: Array, b: Array) -> None:
    streamed, whole = observed(a, b), observed(np.concatenate([a, b]))
    assert same(streamed.histogram, whole.histogram)
    for key in ("low", "high", "count", "zeros", "left_out"):
        assert getattr(streamed, key) == getattr(whole, key), key
    for observer in ("minmax", "percentile", "entropy", "mse"):
        assert choose(streamed, observer) == choose(whole, observer)


@settings(max_examples=20)
@given(NUMBERS | LIKELY)
def test_minmax_contains_the_data_and_no_observer_leaves_it(numbers: Array) -> None:
    seen = observed(numbers, numbers[::-1])
    assert choose(seen, "minmax")[:2] == (numbers.min(), numbers.max())
    for observer in ("auto", *OBSERVERS):
        low, high, _, _ = choose(seen, observer)
        assert min(float(numbers.min()), 0.0) <= low <= high <= max(float(numbers.max()), 0.0), observer


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1e-3, 40.0]))
def test_percentile_is_that_of_numpy_to_a_bin(seed: int, spread: float) -> None:
    numbers = (np.random.default_rng(seed).standard_cauchy(20000) * spread).astype(np.float32)
    seen = observed(numbers)
    low, high, _, _ = choose(seen, "percentile")
    share = (100 - KEPT) / 2
    for end, percent in ((low, share), (high, 100 - share)):
        expected = [np.percentile(numbers, percent, method=m) for m in ("lower", "higher")]
        assert min(expected) - seen.histogram.width <= end <= max(expected) + seen.histogram.width


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@settings(max_examples=15)
@given(LIKELY | NUMBERS, st.integers(0, 2**32 - 1))
def test_mse_is_no_worse_than_the_others_that_clip_alike(scheme: Scheme, numbers: Array, seed: int) -> None:
    tailed = np.random.default_rng(seed).standard_t(3, 500).astype(np.float32)
    for data in (numbers, tailed):
        seen = observed(data)
        least = choose(seen, "mse", scheme).mse
        whole = choose(seen, "minmax", scheme).mse
        assert (least is None and whole is None) or (least is not None and whole is not None and least <= whole)


@pytest.mark.parametrize("scheme", SCHEMES[:3], ids=str)
@pytest.mark.parametrize("rectified", [False, True])
def test_expected_error_is_that_of_rounding(scheme: Scheme, rectified: bool) -> None:
    numbers = np.random.default_rng(5).laplace(size=400_000).astype(np.float32)
    numbers = np.maximum(numbers, 0) if rectified else numbers
    seen = observed(numbers)
    for share in (1.0, 0.5, 0.1):
        params = scheme.params(float(numbers.min()) * share, float(numbers.max()) * share)
        wrong = numbers.astype(np.float64) - dequantized(quantized(numbers, params), params)
        assert expected_error(seen, params) == pytest.approx(np.mean(wrong**2), rel=0.01), share


def test_mse_finds_the_best_range_of_a_long_tail() -> None:
    numbers = np.random.default_rng(0).standard_t(3, 200_000).astype(np.float32)
    seen = observed(numbers)
    chosen = choose(seen, "mse", Scheme(I8, symmetric=True))
    errors = {t: expected_error(seen, Scheme(I8, symmetric=True).params(-t, t)) for t in np.linspace(1, 60, 600)}
    assert chosen.mse is not None and chosen.mse <= min(errors.values()) * 1.001
    whole = choose(seen, "minmax", Scheme(I8, symmetric=True)).mse
    assert whole is not None and chosen.mse < whole / 1.5


def test_entropy_clips_an_outlier_and_keeps_a_uniform_range() -> None:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(100_000).astype(np.float32)
    low, high, _, _ = choose(observed(np.append(normal, np.float32(100.0))), "entropy")
    assert -6 < low < -3 and 3 < high < 20
    uniform = rng.uniform(-1, 3, 100_000).astype(np.float32)
    low, high, _, _ = choose(observed(uniform), "entropy")
    assert low < -0.99 and high > 2.9


def test_auto_judges_on_the_half_that_was_not_seen() -> None:
    """An outlier in one feed is clipped if that costs less than it saves; numbers without a tail keep their range."""
    rng = np.random.default_rng(0)
    feeds = [rng.uniform(-1, 1, 5000).astype(np.float32) for _ in range(8)]
    kept = choose(observed(*feeds), "auto")
    assert kept.low == min(f.min() for f in feeds) and kept.high == max(f.max() for f in feeds)
    feeds[3][0] = 50.0
    clipped = choose(observed(*feeds), "auto")
    assert clipped.observer != "minmax" and clipped.high < 50.0


def test_moving_average_fades_and_starts_as_the_mean() -> None:
    feeds = [np.array([-1.0, float(i)], np.float32) for i in range(4)]
    assert observed(*feeds).average == pytest.approx((-1.0, 1.5))
    seen = observed(*[np.array([0.0, 1.0], np.float32)] * 200, np.array([0.0, 101.0], np.float32))
    assert seen.average == pytest.approx((0.0, 2.0)) and seen.high == 101.0


def test_masks_and_not_a_number_are_left_out() -> None:
    seen = observed(np.array([1.0, -np.inf, np.nan, 3.0, -3.4e38, 0.0], np.float32))
    assert (seen.low, seen.high, seen.left_out, seen.count, seen.zeros) == (0.0, 3.0, 3, 6, 1)
    assert choose(seen, "minmax")[:2] == (0.0, 3.0)
    nothing = observed(np.array([np.nan, HUGE], np.float32))
    assert choose(nothing)[:2] == (0.0, 0.0) and nothing.left_out == 2
    nothing.update(np.array([5.0, 6.0], np.float32))
    assert (nothing.low, nothing.high) == (5.0, 6.0) and nothing.average == (5.0, 6.0)


def test_channels() -> None:
    seen = Observed(axis=1)
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    seen.update(a)
    seen.update(-a)
    assert seen.channels is not None
    assert seen.channels.high.tolist() == [15, 19, 23] and seen.channels.low.tolist() == [-15, -19, -23]
    assert seen.channels.mean.tolist() == [0, 0, 0] and seen.channels.size == 16


def test_observers_without_histograms_and_unknown_ones() -> None:
    seen = Observed(binned=False)
    seen.update(np.array([-2.0, 4.0], np.float32))
    assert choose(seen, "minmax") == (-2.0, 4.0, "minmax", None)
    with pytest.raises(UsageError, match="needs histograms"):
        choose(seen, "mse")
    with pytest.raises(UsageError, match="no observer 'best'"):
        choose(seen, "best")

"""Ranges for quantization, chosen from what was observed of a value; and what an integer grid costs it.

`OBSERVERS` holds the rules by name. "auto" is the one of these whose range, chosen on every other feed, has the least
error on the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from compiler.calibrate.histogram import Histogram
from compiler.calibrate.observed import Observed
from compiler.errors import UsageError
from compiler.quantize import asymmetric, limits, symmetric
from compiler.tensor import I8, Array, DType, QuantParams

KEPT = 99.999  # percent of the numbers that the percentile observer keeps
GRID = 96  # places tried for an end of the range, and as many between the neighbours of the best
EXACT = 8  # of the best by estimate, those whose error is computed
THRESHOLDS = 64  # that entropy compares
LEVELS = 256  # of the distribution that entropy compares with
ABSENT = 1e-4  # the share that stands for a bin that the coarse distribution lacks
CLOSE = 0.02  # of two errors this close, relatively, the wider range is taken: clipping does not average out


class Scheme(NamedTuple):
    """The integers that a range is for: their type, and whether the zero point is 0."""

    dtype: DType = I8
    symmetric: bool = False

    def params(self, low: float, high: float) -> QuantParams:
        """Scale and zero point for numbers from `low` to `high`."""
        if self.symmetric:
            return symmetric([max(-low, high, 0.0)], None, self.dtype)
        return asymmetric(low, high, self.dtype)


INT8 = Scheme()


class Range(NamedTuple):
    """The numbers from `low` to `high`, which `observer` chose, and the mean squared error on the numbers seen; `mse`
    is None where no histogram was made."""

    low: float
    high: float
    observer: str
    mse: float | None


class Sample(NamedTuple):
    """Numbers as one histogram: of `zeros` of them it is known that they are 0, which every grid holds. low and high
    bound the numbers, average is that of the feeds."""

    histogram: Histogram
    zeros: int
    low: float
    high: float
    average: tuple[float, float]

    @property
    def counts(self) -> Array:
        """Of each bin, in float64, without what is exactly 0."""
        counts = self.histogram.counts.astype(np.float64)
        if self.zeros:
            counts[-self.histogram.first] -= self.zeros
        return counts


def choose(seen: Observed, observer: str = "auto", scheme: Scheme = INT8) -> Range:
    """The range of a value; UsageError for an observer that does not exist, or that needs a histogram and has none."""
    if observer not in ("auto", *OBSERVERS):
        raise UsageError(f"there is no observer {observer!r}", hint=f"choose one of auto, {', '.join(OBSERVERS)}")
    binned = len(seen.histogram.counts) > 0
    if not binned and seen.seen and observer not in WITHOUT_HISTOGRAM:
        raise UsageError(
            f"the observer {observer!r} needs histograms, and the calibration holds ranges alone",
            hint="calibrate again with this observer",
        )
    whole = _whole(seen)
    if not binned or seen.low == seen.high:
        low, high = OBSERVERS[observer](whole, scheme) if observer in WITHOUT_HISTOGRAM else (seen.low, seen.high)
        return Range(low, high, observer if observer != "auto" else "minmax", None)
    chosen = _by_other_half(seen, scheme) if observer == "auto" else observer
    low, high = OBSERVERS[chosen](whole, scheme)
    return Range(low, high, chosen, _error(whole, scheme, low, high))


def expected_error(seen: Observed, params: QuantParams) -> float:
    """Mean squared difference between the numbers seen and what per-tensor parameters make of them, with numbers spread
    evenly within each bin of the histogram."""
    return _grid_error(_whole(seen), params)


def _whole(seen: Observed) -> Sample:
    return Sample(seen.histogram, seen.zeros, seen.low, seen.high, seen.average)


def _by_other_half(seen: Observed, scheme: Scheme) -> str:
    """The observer of least error, on the half that it has not seen or on all numbers, whichever is more: some choose
    otherwise on all than on each half. Of about equal ones, the widest."""
    whole = _whole(seen)
    halves = [_half(seen, h) for h in seen.histograms]
    if not all(h.histogram.total for h in halves):
        halves = [whole] * 2
    errors, widths = {}, {}
    for name, observer in OBSERVERS.items():
        ranges = [observer(h, scheme) for h in halves]
        pairs = zip(ranges, reversed(halves), strict=True)
        apart = sum(_error(other, scheme, *r) * other.histogram.total for r, other in pairs)
        errors[name] = max(apart, _error(whole, scheme, *observer(whole, scheme)) * whole.histogram.total)
        widths[name] = sum(high - low for low, high in ranges)
    least = min(errors.values())
    return max((n for n in errors if errors[n] <= least * (1 + CLOSE)), key=lambda n: widths[n])


def _half(seen: Observed, histogram: Histogram) -> Sample:
    """One half as a sample: its ends are those of its bins, within those of all numbers; zeros are shared out."""
    counts = histogram.counts
    if not len(counts):
        return Sample(histogram, 0, 0.0, 0.0, seen.average)
    place = -histogram.first
    at_zero = int(counts[place]) if 0 <= place < len(counts) else 0
    zeros = min(at_zero, round(seen.zeros * histogram.total / seen.seen))
    low, high = histogram.edges[0], histogram.edges[-1]
    return Sample(histogram, zeros, max(float(low), seen.low), min(float(high), seen.high), seen.average)


def _minmax(sample: Sample, _: Scheme) -> tuple[float, float]:
    """Every number seen (B. Jacob et al., Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference, 2018, section 3)."""
    return sample.low, sample.high


def _average(sample: Sample, _: Scheme) -> tuple[float, float]:
    """The moving averages of the ends of each feed, in which a single odd row fades (B. Jacob et al., 2018, section
    3.1)."""
    return sample.average


def _percentile(sample: Sample, _: Scheme) -> tuple[float, float]:
    """All but the outermost 0.001 percent of the numbers, half at each end, with numbers spread evenly within a bin
    (J. McKinstry et al., Discovering Low-Precision Networks Close to Full-Precision Networks, 2018)."""
    h = sample.histogram
    below = np.concatenate([[0], np.cumsum(h.counts)]) / h.total
    share = (1 - KEPT / 100) / 2
    low, high = np.interp([share, 1 - share], below, h.edges)
    return max(float(low), sample.low), min(float(high), sample.high)


def _mse(sample: Sample, scheme: Scheme) -> tuple[float, float]:
    """The range of least expected squared error of rounding and clipping together (R. Banner et al., Post-training
    4-bit quantization of convolution networks for rapid-deployment, 2019; M. Nagel et al., A White Paper on Neural
    Network Quantization, 2021, section 3.1), both ends searched on the histogram instead of a fitted distribution: an
    estimate over a grid, twice, ranks the ranges; the error of the best is computed, and that of the whole range."""
    estimate = _Estimate(sample, scheme)
    lows, highs = (np.linspace(0.0, end, GRID) for end in (min(sample.low, 0.0), max(sample.high, 0.0)))
    candidates = [(sample.low, sample.high)]
    for _ in range(2):
        best = estimate.best(lows, highs)
        candidates += best
        lows, highs = _between(lows, best[0][0]), _between(highs, best[0][1])
    return min(candidates, key=lambda r: _error(sample, scheme, *r))


def _between(places: Array, best: float) -> Array:
    step = abs(float(places[-1] - places[0])) / (GRID - 1)
    near = np.linspace(best - step, best + step, GRID)
    return np.clip(near, min(places[0], places[-1]), max(places[0], places[-1]))


class _Estimate:
    """Squared error of clipping by sums over bins, and of rounding as a twelfth of the squared step."""

    def __init__(self, sample: Sample, scheme: Scheme) -> None:
        edges, counts = sample.histogram.edges, sample.counts
        self._centres = (edges[:-1] + edges[1:]) / 2
        sums = [np.concatenate([[0.0], np.cumsum(counts * self._centres**k)]) for k in (0, 1, 2)]
        self._mass, self._first, self._second = sums
        self._scheme = scheme

    def best(self, lows: Array, highs: Array) -> list[tuple[float, float]]:
        """The most promising pairs, best first."""
        if self._scheme.symmetric:
            highs = np.union1d(-lows, highs)
            lows = -highs
            (cost_low, out_low), (cost_high, out_high) = self._below(lows), self._above(highs)
            pairs = np.stack([lows, highs], 1)
            total, width = cost_low + cost_high, highs - lows
            outside = out_low + out_high
        else:
            (cost_low, out_low), (cost_high, out_high) = self._below(lows), self._above(highs)
            pairs = np.stack(np.meshgrid(lows, highs, indexing="ij"), -1).reshape(-1, 2)
            total, width = np.add.outer(cost_low, cost_high).reshape(-1), pairs[:, 1] - pairs[:, 0]
            outside = np.add.outer(out_low, out_high).reshape(-1)
        first, last = limits(self._scheme.dtype, self._scheme.symmetric)
        total = total + (width / (last - first)) ** 2 / 12 * (self._mass[-1] - outside)
        return [(float(low), float(high)) for low, high in pairs[np.argsort(total, kind="stable")[:EXACT]]]

    def _below(self, ends: Array) -> tuple[Array, Array]:
        """The error of numbers below each end when they are moved to it, and how many they are."""
        n = np.searchsorted(self._centres, ends)
        return self._moved(self._mass[n], self._first[n], self._second[n], ends)

    def _above(self, ends: Array) -> tuple[Array, Array]:
        n = np.searchsorted(self._centres, ends)
        mass, first, second = (sums[-1] - sums[n] for sums in (self._mass, self._first, self._second))
        return self._moved(mass, first, second, ends)

    @staticmethod
    def _moved(mass: Array, first: Array, second: Array, ends: Array) -> tuple[Array, Array]:
        return np.maximum(second - 2 * ends * first + ends**2 * mass, 0.0), mass


def _entropy(sample: Sample, _: Scheme) -> tuple[float, float]:
    """Magnitudes clipped where the distribution that LEVELS groups of bins can show diverges least from that seen
    (S. Migacz, 8-bit Inference with TensorRT, GTC 2017); numbers beyond count at the outermost bins that are left."""
    h, counts = sample.histogram, sample.counts
    outermost = max(h.first + len(counts), -h.first)
    least = min(LEVELS if h.first >= 0 or h.first + len(counts) <= 0 else LEVELS // 2, outermost)
    best, threshold = np.inf, outermost
    for t in np.unique(np.linspace(least, outermost, THRESHOLDS).astype(int))[::-1].tolist():
        start, stop = max(0, -t - h.first), min(len(counts), t - h.first)
        divergence = _divergence(counts, start, stop)
        if divergence < best:
            best, threshold = divergence, t
    bound = threshold * h.width
    return max(sample.low, -bound), min(sample.high, bound)


def _divergence(counts: Array, start: int, stop: int) -> float:
    """Kullback-Leibler divergence of the bins from start to stop, with what lies beyond added at their ends, from the
    same bins spread over LEVELS groups."""
    inner = counts[start:stop]
    total = counts.sum()
    if not inner.any() or not total:
        return np.inf
    seen = inner.copy()
    seen[0] += counts[:start].sum()
    seen[-1] += counts[stop:].sum()
    filled = inner > 0
    levels = min(len(inner), LEVELS)
    starts = (np.arange(levels + 1) * len(inner) + levels - 1) // levels
    mass, places = (np.add.reduceat(a, starts[:-1], dtype=np.float64) for a in (inner, filled))
    coarse = np.repeat(mass / np.maximum(places, 1), np.diff(starts)) * filled
    p, q = seen / total, coarse / inner.sum()
    at = p > 0
    return float(np.sum(p[at] * np.log(p[at] / np.where(q[at] > 0, q[at], ABSENT / len(inner)))))


def _error(sample: Sample, scheme: Scheme, low: float, high: float) -> float:
    return _grid_error(sample, scheme.params(low, high))


def _grid_error(sample: Sample, params: QuantParams) -> float:
    """In steps u of the grid, the squared distance to the nearest level n, summed up to t, is n/12 + (t - n)³/3 plus a
    constant, for levels within the grid and beyond its ends alike."""
    (scale,), (zero,) = params.scale, params.zero_point
    first, last = limits(params.dtype)
    places = sample.histogram.edges / scale
    nearest = np.clip(np.rint(places), first - zero, last - zero)
    apart = places - nearest
    summed = nearest / 12 + apart * apart * apart / 3
    per_bin = np.diff(summed) / (sample.histogram.width / scale)
    return float(sample.counts @ np.maximum(per_bin, 0.0)) * scale**2 / max(sample.histogram.total, 1)


Observer = Callable[[Sample, Scheme], tuple[float, float]]
OBSERVERS: dict[str, Observer] = {
    "minmax": _minmax,
    "average": _average,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}
WITHOUT_HISTOGRAM = ("minmax", "average")

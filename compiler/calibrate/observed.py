"""What was seen of one value, feed by feed, in memory that does not grow with the data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.calibrate.histogram import HUGE, Histogram
from compiler.tensor import Array

BLOCK = 1 << 16  # elements that are looked at a time
FORGETTING = 0.01  # share of the newest feed in the moving average, once there were 1 / FORGETTING of them


class Channels(NamedTuple):
    """Smallest and largest number, and sum, at each place along `axis`, over `size` numbers each."""

    axis: int
    low: Array
    high: Array
    sums: Array
    size: int

    @property
    def mean(self) -> Array:
        return np.asarray(self.sums / max(self.size, 1))


class Observed:
    """Statistics of a value.

    low, high    the smallest and the largest number; 0 and 0 before the first
    average      the moving averages of each feed's smallest and largest number
    count        how many numbers there were, those left out among them
    zeros        how many were 0, if there are histograms
    feeds        how many times `update` was called; `ranged`: how many of them had a number within bounds
    left_out     how many were NaN, infinite, or of a magnitude of 2**100 or more, as masks have; no range holds them
    histograms   of every other feed each, so that one half can judge what was chosen on the other; empty if only
                 ranges were asked for
    channels     ranges along an axis, if asked for
    """

    def __init__(self, binned: bool = True, axis: int | None = None) -> None:
        self.low = self.high = 0.0
        self.average = (0.0, 0.0)
        self.feeds = self.ranged = self.count = self.zeros = self.left_out = 0
        self.binned = binned
        self.histograms = (Histogram(), Histogram())
        self.axis = axis
        self.channels: Channels | None = None

    def update(self, array: Array) -> None:
        """Take in the numbers of one feed."""
        with np.errstate(all="ignore"):
            array = array.astype(np.float32, copy=False)
        numbers, before = array.reshape(-1), self.left_out
        ends = [self._look(numbers[i : i + BLOCK]) for i in range(0, numbers.size, BLOCK)]
        self.count += numbers.size
        found = [e for e in ends if e is not None]
        if found:
            self._extend(min(low for low, _ in found), max(high for _, high in found))
        self.feeds += 1
        if self.axis is not None and self.left_out == before:
            self._extend_channels(array, self.axis)

    def _look(self, block: Array) -> tuple[float, float] | None:
        """Count the numbers of a block, which stays in the processor's cache; its ends, if it has numbers."""
        low, high = float(block.min()), float(block.max())
        if not (low > -HUGE and high < HUGE):
            numbers = block[np.abs(block) < HUGE]
            self.left_out += block.size - numbers.size
            return self._look(numbers) if numbers.size else None
        if self.binned:
            if low <= 0.0 <= high:
                self.zeros += block.size - int(np.count_nonzero(block))
            self.histograms[self.feeds % 2].add(block, low, high)
        return low, high

    @property
    def seen(self) -> int:
        """How many numbers lie from `low` to `high`."""
        return self.count - self.left_out

    @property
    def histogram(self) -> Histogram:
        """Of all numbers."""
        return self.histograms[0].merged(self.histograms[1])

    def _extend(self, low: float, high: float) -> None:
        if self.ranged:
            self.low, self.high = min(self.low, low), max(self.high, high)
        else:
            self.low, self.high = low, high
        self.ranged += 1
        share = max(FORGETTING, 1 / self.ranged)
        a, b = self.average
        self.average = (a + share * (low - a), b + share * (high - b))

    def _extend_channels(self, array: Array, axis: int) -> None:
        others = tuple(i for i in range(array.ndim) if i != axis % array.ndim)
        low, high = array.min(others), array.max(others)
        sums = array.sum(others, dtype=np.float64)
        size = array.size // max(len(low), 1)
        c = self.channels
        if c is not None:
            low, high = np.minimum(low, c.low), np.maximum(high, c.high)
            sums, size = sums + c.sums, size + c.size
        self.channels = Channels(axis, low, high, sums, size)

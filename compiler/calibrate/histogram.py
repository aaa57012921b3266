"""Histograms that grow without a second look at the data.

The width of a bin is a power of two and bin i holds the numbers from i·width up to (i+1)·width, so two neighbouring
bins make one of the next width, exactly. The width is the smallest with which at most `BINS` bins cover all numbers
seen: a histogram depends on the numbers alone, neither on their order nor on how they were cut into batches. (Of
magnitudes below LEAST it may tell a negative number as 0, where the bins are wide enough for float32 to underflow.)
"""

from __future__ import annotations

from math import frexp

import numpy as np

from compiler.tensor import Array

BINS = 4096
HUGE = 2.0**100  # larger magnitudes are masks rather than numbers: they are counted and left out
LEAST = 2.0**-60
DEEPEST = 22  # bits of a bin's number: exact in float32, with room for its fraction
FINEST = -126  # the exponent of the smallest width, whose inverse float32 still holds


class Histogram:
    """Counts of bins from number `first` on, of width 2**exponent; nothing seen yet if `counts` is empty."""

    __slots__ = ("counts", "exponent", "first")

    def __init__(self, exponent: int = FINEST, first: int = 0, counts: Array | None = None) -> None:
        self.exponent = exponent
        self.first = first
        self.counts: Array = np.zeros(0, np.int64) if counts is None else counts

    @property
    def width(self) -> float:
        return 2.0**self.exponent

    @property
    def total(self) -> int:
        """How many numbers were counted."""
        return int(self.counts.sum())

    @property
    def edges(self) -> Array:
        """The float64 edges of the bins, one more than there are bins."""
        return (self.first + np.arange(len(self.counts) + 1)) * self.width

    def add(self, numbers: Array, low: float, high: float) -> None:
        """Count float32 numbers in one dimension, all of which lie from `low` to `high`, both below HUGE."""
        self._cover(low, high)
        places = numbers * np.float32(2.0**-self.exponent)
        if self.first:
            np.floor(places, out=places)
            places -= np.float32(self.first)
        self.counts += np.bincount(places.astype(np.intp), minlength=len(self.counts))

    def merged(self, other: Histogram) -> Histogram:
        """The histogram of the numbers of both."""
        if not len(self.counts) or not len(other.counts):
            seen = self if len(self.counts) else other
            return Histogram(seen.exponent, seen.first, seen.counts.copy())
        result = Histogram(self.exponent, self.first, self.counts.copy())
        exponent = max(self.exponent, other.exponent)
        result._coarsen(exponent)
        added = Histogram(other.exponent, other.first, other.counts.copy())
        added._coarsen(exponent)
        while _span(result, added) > BINS:
            exponent += 1
            result._coarsen(exponent)
            added._coarsen(exponent)
        result._extend(added.first, added.first + len(added.counts) - 1)
        start = added.first - result.first
        result.counts[start : start + len(added.counts)] += added.counts
        return result

    def _cover(self, low: float, high: float) -> None:
        """Make room for numbers from `low` to `high`, with wider bins where it takes them."""
        peak = max(abs(low), abs(high))
        exponent = max(self.exponent, frexp(peak)[1] - DEEPEST if peak else FINEST)
        while True:
            self._coarsen(exponent)
            ends = [_bin(low, exponent), _bin(high, exponent)]
            if len(self.counts):
                ends += [self.first, self.first + len(self.counts) - 1]
            if max(ends) - min(ends) < BINS:
                break
            exponent += max(1, (max(ends) - min(ends)).bit_length() - BINS.bit_length())
        self._extend(min(ends), max(ends))

    def _coarsen(self, exponent: int) -> None:
        """Add up bins to those of a larger width."""
        shift = exponent - self.exponent
        if shift <= 0:
            return
        self.exponent = exponent
        if len(self.counts):
            last = (self.first + len(self.counts) - 1) >> shift
            places = (np.arange(len(self.counts)) + self.first) >> min(shift, 62)
            self.first >>= shift
            counts = np.zeros(last - self.first + 1, np.int64)
            np.add.at(counts, places - self.first, self.counts)
            self.counts = counts

    def _extend(self, low: int, high: int) -> None:
        """Add empty bins, so that those from `low` to `high` are there."""
        if not len(self.counts):
            self.first, self.counts = low, np.zeros(high - low + 1, np.int64)
            return
        before, after = max(0, self.first - low), max(0, high - (self.first + len(self.counts) - 1))
        if before or after:
            self.counts = np.pad(self.counts, (before, after))
            self.first -= before


def _bin(number: float, exponent: int) -> int:
    """The number of the bin that holds it."""
    return int(np.floor(number * 2.0**-exponent))


def _span(a: Histogram, b: Histogram) -> int:
    return max(a.first + len(a.counts), b.first + len(b.counts)) - min(a.first, b.first)

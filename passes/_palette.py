"""Tables of few numbers that stand for many: k-means in one dimension.

Lloyd's iteration (S. Lloyd, Least squares quantization in PCM, 1982) on sorted numbers with their counts: a cluster is
a run of them, so that its mean comes from two running sums, and one iteration takes the time of as many binary searches
as there are clusters. It starts from three tables and keeps the best result: equal steps from the smallest to the
largest number, and the density that is optimal for many clusters, the cube root of that of the numbers (P. Panter,
W. Dite, Quantization distortion in pulse-count modulation, 1951), once counted in equal bins, once from the gaps
between neighbours. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compiler.tensor import Array, Palette
from passes._zeros import has_many_zeros

EXACT_UP_TO = 1 << 16  # numbers; of more, those that fp16 does not tell apart once the largest is 1 count as one
ITERATIONS = 200
BINS = 1024
SETTLED = 1e-7  # relative change of the squared error


class Sample:
    """Different numbers, ascending, how often each occurs, and running sums."""

    def __init__(self, array: Array) -> None:
        self.numbers, self.counts = _distinct(array.reshape(-1))
        self.sum_counts = np.concatenate([[0.0], np.cumsum(self.counts)])
        self.sums = np.concatenate([[0.0], np.cumsum(self.numbers * self.counts)])
        self.squares = float((np.square(self.numbers) * self.counts).sum())

    def cut(self, table: Array) -> tuple[Array, Array]:
        """How many numbers are nearest to each entry, and their sum."""
        inner = np.searchsorted(self.numbers, (table[1:] + table[:-1]) / 2)
        ends = np.concatenate([[0], inner, [self.numbers.size]])
        return np.diff(self.sum_counts[ends]), np.diff(self.sums[ends])

    def lloyd(self, table: Array, keeps_zero: bool = False) -> tuple[float, Array]:
        """The squared error and the table when iterating moves it no further; `keeps_zero`: with 0 as one more entry,
        which stays where it is."""
        at = int(np.searchsorted(table, 0.0))
        table = np.insert(table, at, 0.0) if keeps_zero else table
        moves = np.arange(table.size) != (at if keeps_zero else table.size)
        error = np.inf
        for _ in range(ITERATIONS):
            counts, sums = self.cut(table)
            before, error = error, self.squares + float((table * (table * counts - 2 * sums)).sum())
            if error >= (1 - SETTLED) * before:
                break
            table = np.where(moves & (counts > 0), sums / np.maximum(counts, 1), table)
        return error, table

    def starts(self, entries: int) -> Iterator[Array]:
        """Tables to start from."""
        yield np.linspace(self.numbers[0], self.numbers[-1], entries)
        counted, edges = np.histogram(self.numbers, BINS, weights=self.counts)
        yield _spread(np.cbrt(counted), edges, entries)
        yield _spread(np.cbrt(self.counts[1:] * np.square(np.diff(self.numbers))), self.numbers, entries)


def _spread(shares: Array, ends: Array, entries: int) -> Array:
    """Numbers that have equal parts of the shares between them; each share lies between two of `ends`."""
    sums = np.concatenate([[0.0], np.cumsum(shares)])
    return np.asarray(np.interp((np.arange(entries) + 0.5) / entries * sums[-1], sums, ends))


def table_of(array: Array, bits: int, keeps_zero: bool = False) -> tuple[float, ...]:
    """2^bits numbers, ascending, for the finite numbers of an array; as many different numbers or fewer are the table
    itself, the last one repeated. `keeps_zero`: 0 is one of them."""
    sample = Sample(array)
    entries = 1 << bits
    if sample.numbers.size <= entries:
        table = np.pad(sample.numbers, (0, entries - sample.numbers.size), "edge")
    else:
        samples = (sample, Sample(array[array != 0])) if keeps_zero else (sample,)
        starts = (start for one in samples for start in one.starts(entries - keeps_zero))
        found = (sample.lloyd(start, keeps_zero) for start in starts)
        table = min(found, key=lambda one: one[0])[1]
    return tuple(table.astype(np.float32).tolist())


def palette_of(array: Array, bits: int, axis: int, group: int) -> Palette:
    """A palette with a table for every `group` neighbours along `axis`, 0: with a single table. Of more than one bit
    all tables hold 0 if many numbers are zeros, so that these stay."""
    keeps_zero = bits > 1 and has_many_zeros(array)
    if not group:
        return Palette((table_of(array, bits, keeps_zero),))
    parts = np.split(array, array.shape[axis] // group, axis)
    return Palette(tuple(table_of(part, bits, keeps_zero) for part in parts), axis)


def _distinct(flat: Array) -> tuple[Array, Array]:
    """Ascending numbers in float64 and how often they occur; of many numbers those of an fp16 grid."""
    if flat.size <= EXACT_UP_TO:
        numbers, times = np.unique(flat, return_counts=True)
        return numbers.astype(np.float64), times.astype(np.float64)
    peak = float(np.abs(flat).max()) or 1.0
    patterns = np.bincount((flat / flat.dtype.type(peak)).astype(np.float16).view(np.uint16), minlength=1 << 16)
    found = np.flatnonzero(patterns)
    numbers = found.astype(np.uint16).view(np.float16).astype(np.float64) * peak
    order = np.argsort(numbers, kind="stable")
    return numbers[order], patterns[found][order].astype(np.float64)

"""Where buffers lie in one block of memory: those that are in use at the same time never overlap.

Buffers are laid from the largest, each at the lowest place that is free as long as it is in use (Y. Pisarchyk, J. Lee,
Efficient Memory Management for Deep Neural Net Inference, 2020, greedy by size); several orders are tried. If all of
them waste much, the buffers at the end of the block are laid earlier, again and again (D. Joslin, D. Clements, Squeaky
Wheel Optimization, 1999).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

ALIGNMENT = 64  # bytes: a cache line
ENOUGH = 1.01  # times the bound, from which on better plans are looked for
ROUNDS = 60
PAIRS = 2_000_000  # of buffers in use at once that are looked at at all
WORK = 500_000  # of them for better plans


class Span(NamedTuple):
    """A buffer's size in bytes, and the first and the last step at which it is in use."""

    nbytes: int
    first: int
    last: int


class Plan(NamedTuple):
    """An offset for each span, the size of the whole, and the least that any plan takes: the most that is in use at
    one step."""

    offsets: list[int]
    size: int
    bound: int


def aligned(nbytes: int) -> int:
    """The size rounded up to whole cache lines."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def plan(spans: Sequence[Span]) -> Plan:
    """The best of some greedy plans; one plan alone, if there are so many buffers in use at once that all would take
    long."""
    bound = lower_bound(spans)
    together = _together(spans)
    if together is None:
        return Plan(*_scanned(spans), bound)
    best: list[int] = []
    least = -1
    for key in ORDERS:
        order = sorted(range(len(spans)), key=lambda i, key=key: key(spans[i]))  # type: ignore[misc]  # bound early
        offsets, size = _laid(spans, together, order)
        if least < 0 or size < least:
            best, least = offsets, size
        if least == bound:
            break
    if least > ENOUGH * bound:
        best, least = _improved(spans, together, Plan(best, least, bound))
    return Plan(best, max(least, 0), bound)


def _improved(spans: Sequence[Span], together: Sequence[Sequence[int]], plan: Plan) -> tuple[list[int], int]:
    """The best of further plans: those that reach the end of one are laid before the others in the next."""
    offsets, end, bound = plan
    order = sorted(range(len(spans)), key=lambda i: offsets[i])
    found, least = offsets, end
    for _ in range(min(ROUNDS, WORK // max(sum(map(len, together)), 1))):
        high = {i for i in order if offsets[i] + aligned(spans[i].nbytes) == end}
        order = [i for i in order if i in high] + [i for i in order if i not in high]
        offsets, end = _laid(spans, together, order)
        if end < least:
            found, least = offsets, end
        if least == bound:
            break
    return found, least


def lower_bound(spans: Sequence[Span]) -> int:
    """The most bytes that are in use at one step."""
    change: dict[int, int] = {}
    for s in spans:
        change[s.first] = change.get(s.first, 0) + aligned(s.nbytes)
        change[s.last + 1] = change.get(s.last + 1, 0) - aligned(s.nbytes)
    used = most = 0
    for step in sorted(change):
        used += change[step]
        most = max(most, used)
    return most


Key = Callable[[Span], tuple[int, ...]]
ORDERS: Sequence[Key] = (
    lambda s: (-s.nbytes, s.first),
    lambda s: (s.first, -s.nbytes),
    lambda s: (s.first - s.last, -s.nbytes),
    lambda s: (-s.nbytes * (s.last - s.first + 1), s.first),
    lambda s: (s.last, -s.nbytes),
)


def _together(spans: Sequence[Span]) -> list[list[int]] | None:
    """For each buffer those that are in use at a time when it is; None if they are too many."""
    found: list[list[int]] = [[] for _ in spans]
    active: list[int] = []
    pairs = 0
    for i in sorted(range(len(spans)), key=lambda i: spans[i].first):
        active = [j for j in active if spans[j].last >= spans[i].first]
        pairs += 2 * len(active)
        if pairs > PAIRS:
            return None
        for j in active:
            found[j].append(i)
        found[i].extend(active)
        active.append(i)
    return found


def _laid(spans: Sequence[Span], together: Sequence[Sequence[int]], order: Sequence[int]) -> tuple[list[int], int]:
    """Each at the lowest place that is free, in this order; the offsets, and the size of the whole."""
    offsets = [-1] * len(spans)
    end = 0
    for i in order:
        size, place = aligned(spans[i].nbytes), 0
        for at, j in sorted((offsets[j], j) for j in together[i] if offsets[j] >= 0):
            if at - place >= size:
                break
            place = max(place, at + aligned(spans[j].nbytes))
        offsets[i] = place
        end = max(end, place + size)
    return offsets, end


def _scanned(spans: Sequence[Span]) -> tuple[list[int], int]:
    """In the order of time, each in the first gap that it fits into."""
    offsets = [0] * len(spans)
    gaps: list[tuple[int, int]] = []  # begin and end, in rising order
    busy: list[tuple[int, int]] = []  # the last step, and which
    end = 0
    for i in sorted(range(len(spans)), key=lambda i: spans[i].first):
        while busy and busy[0][0] < spans[i].first:
            _release(gaps, offsets[busy[0][1]], aligned(spans[heappop(busy)[1]].nbytes))
        size = aligned(spans[i].nbytes)
        k = next((k for k, (a, b) in enumerate(gaps) if b - a >= size), None)
        if k is None:
            offsets[i], end = end, end + size
        else:
            a, b = gaps[k]
            offsets[i] = a
            gaps[k : k + 1] = [(a + size, b)] * (b - a > size)
        heappush(busy, (spans[i].last, i))
    return offsets, end


def _release(gaps: list[tuple[int, int]], begin: int, size: int) -> None:
    """Add a gap, and join it with its neighbours."""
    at = bisect_left(gaps, (begin, begin))
    end = begin + size
    if at < len(gaps) and gaps[at][0] == end:
        end = gaps.pop(at)[1]
    if at and gaps[at - 1][1] == begin:
        at -= 1
        begin = gaps.pop(at)[0]
    gaps.insert(at, (begin, end))

"""The graph in pieces that run in one place, whatever the order in which the program lists its operations."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from targets.apple.placement.macs import macs
from targets.apple.placement.operation import Operation, Program


class Segment(NamedTuple):
    """Operations that run together: on the engine, or elsewhere."""

    on_engine: bool
    operations: tuple[int, ...]
    macs: int


class Pieces(NamedTuple):
    """All segments in an order of execution, and the bytes of the values that one hands to another; a value that two
    others read is handed over twice."""

    segments: tuple[Segment, ...]
    crossing_bytes: int

    @property
    def on_engine(self) -> tuple[Segment, ...]:
        return tuple(s for s in self.segments if s.on_engine)

    @property
    def largest(self) -> Segment | None:
        """The segment on the engine with the most multiply-accumulates, and of those the most operations."""
        return max(self.on_engine, key=lambda s: (s.macs, len(s.operations)), default=None)


def pieces(program: Program, on_engine: Sequence[bool]) -> Pieces:
    """As few segments as greedy choice gives: as many operations as can follow are taken before the place changes.
    The first place is the one that gives fewer."""
    ways = [_greedy(program, on_engine, first) for first in (True, False)]
    best = min(ways, key=len)
    counts = [macs(op) for op in program.operations]
    segments = tuple(Segment(place, members, sum(counts[i] for i in members)) for place, members in best)
    return Pieces(segments, _crossing(program, segments))


def _greedy(program: Program, on_engine: Sequence[bool], first: bool) -> list[tuple[bool, tuple[int, ...]]]:
    waiting, readers = _dependencies(program.operations)
    ready: dict[bool, deque[int]] = {True: deque(), False: deque()}
    for i, count in enumerate(waiting):
        if not count:
            ready[on_engine[i]].append(i)
    found: list[tuple[bool, tuple[int, ...]]] = []
    place = first
    while ready[True] or ready[False]:
        members = []
        while ready[place]:
            i = ready[place].popleft()
            members.append(i)
            for j in readers[i]:
                waiting[j] -= 1
                if not waiting[j]:
                    ready[on_engine[j]].append(j)
        if members:
            found.append((place, tuple(sorted(members))))
        place = not place
    return found


def depth(operations: Sequence[Operation]) -> int:
    """How many operations the longest chain has; operations stand behind those that they read."""
    found: dict[str, int] = {}
    for op in operations:
        here = 1 + max((found.get(t.name, 0) for t in op.operands), default=0)
        found.update((t.name, here) for t in op.outputs)
    return max(found.values(), default=0)


def _dependencies(operations: Sequence[Operation]) -> tuple[list[int], list[list[int]]]:
    """For each operation, how many others it waits for, and the places of those that read its results."""
    producer = {t.name: i for i, op in enumerate(operations) for t in op.outputs}
    waiting, readers = [0] * len(operations), [list[int]() for _ in operations]
    for i, op in enumerate(operations):
        for source in {producer[t.name] for t in op.operands if t.name in producer}:
            waiting[i] += 1
            readers[source].append(i)
    return waiting, readers


def _crossing(program: Program, segments: Sequence[Segment]) -> int:
    home = {i: number for number, s in enumerate(segments) for i in s.operations}
    made = {t.name: (home[i], t.nbytes) for i, op in enumerate(program.operations) for t in op.outputs}
    handed: set[tuple[str, int]] = set()
    total = 0
    for i, op in enumerate(program.operations):
        for t in op.operands:
            source, nbytes = made.get(t.name, (home[i], 0))
            if source != home[i] and (t.name, home[i]) not in handed:
                handed.add((t.name, home[i]))
                total += nbytes
    return total

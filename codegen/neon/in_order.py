"""Straight-line code in another order, for cores that issue instructions in the order of the program: list scheduling
(R. Graham, Bounds for certain multiprocessing anomalies, 1966) for LLVM's model of the Cortex-A55.

Each cycle takes the two instructions that the most work waits for, of those whose operands are there. One of them may
load and one may store; arithmetic on vectors but for multiply-accumulates comes first in its cycle. All results but
those of multiply-accumulates are written in the order of the program, so that nothing overtakes what takes longer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

WIDTH = 2  # instructions of a cycle
_REGISTER = re.compile(r"\b[vq](\d+)\b|\b(x\d+)\b|%\[(\w+)\]")
_LATENCY = {"load": 3, "indexed": 4, "store": 1, "number": 3, "product": 4, "vector": 4}
_INDEXED = re.compile(r"\[.*, (?:x\d+|%\[\w+\])\]$")


class _Instruction(NamedTuple):
    text: str
    kind: str
    reads: frozenset[str]
    writes: frozenset[str]

    @property
    def latency(self) -> int:
        return _LATENCY[self.kind]

    @property
    def unit(self) -> str:
        """What no other instruction of its cycle may take."""
        return "load" if self.kind == "indexed" else self.kind

    @property
    def is_ordered(self) -> bool:
        """Whether its result is written after all those before it."""
        return self.kind not in ("product", "store")


Edges = list[list[tuple[int, int]]]  # for each instruction those that wait for it, and how many cycles


def ordered(lines: Sequence[str], *, is_loop: bool = False) -> list[str]:
    """The same instructions in an order that takes fewer cycles; in a loop they are followed by themselves. They do not
    write to memory that another of them reads."""
    body = [_parsed(line) for line in lines]
    urgency = _urgency(body * 2 if is_loop else body)
    edges = _edges(body)
    waits = [0] * len(body)
    for later, _ in (e for found in edges for e in found):
        waits[later] += 1
    earliest = [0] * len(body)
    ready = {i for i, n in enumerate(waits) if not n}
    made: list[str] = []
    cycle = written = 0
    while ready:
        issued: list[_Instruction] = []
        for i in sorted(ready, key=lambda i: (-urgency[i], i)):
            if earliest[i] > cycle or not _fits(body[i], issued, written - cycle):
                continue
            issued.append(body[i])
            made.append(body[i].text)
            ready.discard(i)
            if body[i].is_ordered:
                written = cycle + body[i].latency
            for later, cycles in edges[i]:
                earliest[later] = max(earliest[later], cycle + cycles)
                waits[later] -= 1
                if not waits[later]:
                    ready.add(later)
            if len(issued) == WIDTH:
                break
        cycle += 1
    return made


def _fits(one: _Instruction, issued: Sequence[_Instruction], written: int) -> bool:
    """Whether it may be issued in a cycle beside others, if the last result is written in so many cycles."""
    if one.is_ordered and one.latency < written:
        return False
    if one.kind == "vector" and issued:
        return False
    return one.unit not in ("load", "store") or all(other.unit != one.unit for other in issued)


def _parsed(line: str) -> _Instruction:
    name, _, rest = line.partition(" ")
    used = ["".join(found) for found in _REGISTER.findall(rest)]
    if name.startswith("st"):
        return _Instruction(line, "store", frozenset(used), frozenset())
    first, *others = used
    if name in ("fmla", "fmls"):
        return _Instruction(line, "product", frozenset(used), frozenset({first}))
    kind = "vector" if first.isdigit() else "number"
    if name.startswith("ld"):
        kind = "indexed" if _INDEXED.search(rest) else "load"
    return _Instruction(line, kind, frozenset(others), frozenset({first}))


def _edges(body: Sequence[_Instruction]) -> Edges:
    """What waits for the results of another, and what overwrites that it reads or writes."""
    edges: Edges = [[] for _ in body]
    writer: dict[str, int] = {}
    readers: dict[str, list[int]] = {}
    for i, one in enumerate(body):
        for name in one.reads:
            if name in writer:
                edges[writer[name]].append((i, body[writer[name]].latency))
            readers.setdefault(name, []).append(i)
        for name in one.writes:
            before = [r for r in readers.pop(name, ()) if r != i]
            for other in before:
                edges[other].append((i, 0))
            if name in writer and not before and name not in one.reads:
                edges[writer[name]].append((i, 1))
            writer[name] = i
            if name in one.reads:
                readers[name] = [i]
    return edges


def _urgency(body: Sequence[_Instruction]) -> list[int]:
    """Cycles from each instruction to the end of what waits for it."""
    edges = _edges(body)
    found = [one.latency for one in body]
    for i in reversed(range(len(body))):
        found[i] = max([found[i], *(cycles + found[later] for later, cycles in edges[i])])
    return found

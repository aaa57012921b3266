"""What a product spends its operations on, counted in the text of its kernel."""

from __future__ import annotations

import re
from typing import NamedTuple

LOOP = re.compile(r"for \(uint (\w+) = 0; \1 < [^;]+; \1(?:\+\+| \+= \d+)\)")
UNROLLED = re.compile(r"for \(uint (\w+) = 0; \1 < (\d+); \1(?:\+\+| \+= (\d+))\)")
TURNS = ("at", "ky", "kx")  # variables of loops that are turns: over the depth, and the taps of a window
KNOWN = re.compile(r" \+ (?:\d+ \* \(?(?:[dijq]|d \+ j)\b\)?|[dijq]\b)(?![\[(])|\b\d+ \* [dij]\b(?: \+ d\b)?")
OPERATORS = re.compile(r" (?:\+|-|\*|/|%|<<|>>|&|&&|\||<|>|==|\?|\+=) ")
READS = re.compile(r"(?<!\w )\*\(")  # what a pointer points to
PRODUCTS = {  # multiply-adds of a lane
    "simdgroup_multiply_accumulate(": 16,
    "fma(float4(": 4,
    "+= float4(dot(": 16,
}
CALLS = ("simdgroup_load(", "threadgroup_barrier(")


class Count(NamedTuple):
    """Operations that a lane issues in a turn of the loop over the depth: multiply-adds, and all. A product of 8 x 8
    matrices is 512 multiply-adds, 16 for each lane. Any other thing is one operation: an addition, a comparison, a
    choice, a barrier, a load or store, be it of a scalar, of a vector of 4, or of a lane's part of a matrix. What is
    known when the kernel is compiled is none: loops of constant length, and constants that are added to addresses."""

    multiply_adds: int
    all: int

    @property
    def share(self) -> float:
        """Of multiply-adds."""
        return self.multiply_adds / self.all


def inner_loop(text: str) -> Count:
    """Of the loop over the depth in the text of a kernel, with the loops over taps around it, as if each tap were one
    turn. ValueError if there is no such loop."""
    lines = text.split("\n")
    first = next((i for i, line in enumerate(lines) if _turn(line)), None)
    if first is None:
        raise ValueError("the text has no loop over a depth")
    depth = _indent(lines[first])
    made, every = 0, 0
    around: list[tuple[int, int]] = []  # loops of constant length: how far they are indented, and their length
    for at, line in enumerate(lines[first:]):
        if at and line.strip() and _indent(line) <= depth:
            break
        around = [(indent, count) for indent, count in around if indent < _indent(line)]
        times = 1
        for _, count in around:
            times *= count
        loop = UNROLLED.search(line)
        if loop and loop[1] not in TURNS:
            around.append((_indent(line), int(loop[2]) // int(loop[3] or 1)))
            continue
        multiply_adds, others = _operations(line)
        made += times * multiply_adds
        every += times * (multiply_adds + others)
    return Count(made, every)


def _turn(line: str) -> bool:
    found = LOOP.search(line)
    return found is not None and found[1] in TURNS


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip()) if line.strip() else 10**6


def _operations(line: str) -> tuple[int, int]:
    """Multiply-adds and other operations of a statement."""
    line = line.split("//", maxsplit=1)[0]
    if _turn(line):
        return 0, 2
    for product, count in PRODUCTS.items():
        if product in line:
            return count, 0
    if any(call in line for call in CALLS):
        return 0, 1
    bare = KNOWN.sub("", line)
    return 0, len(OPERATORS.findall(bare)) + len(READS.findall(bare))

"""Winograd's transforms as assembly for cores that issue in order: four channels of a patch, or of products, at a time.

Columns are transformed first, and their results stay in registers. Those of patches of 6 x 6 are too many: three rows
of them are done before the other three, which read the patch again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

from codegen.expression import Expression, Operand
from codegen.neon.gemm_tail import Tail
from codegen.neon.in_order import ordered

NUMBERS = (4.0, 5.0, 2.0, 8.0)  # the lanes of a register
KEPT = 31  # that register
MOST = 5  # registers of a tail
COLUMNS = [f"x{r}" for r in range(2, 8)]  # general registers: bytes to the columns
ROWS = [f"x{r}" for r in (*range(8, 18), *range(19, 24))]  # pointers, without the register that systems keep
COPY = "ext v<d>.16b, v<0>.16b, v<0>.16b, #0"  # takes as long as arithmetic does: a move would wait for that
RESULT = Operand(0)
Values = Callable[[int], int]


class _Line(NamedTuple):
    """An instruction before registers are chosen: <d> is its result, <0> and <1> are what it reads. An update has its
    result in the register of the first, or of a copy if others need that too."""

    text: str
    reads: tuple[int, ...] = ()
    is_update: bool = False
    is_result: bool = False


class Code:
    """Instructions; the value of each has its number."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []

    def _append(self, line: _Line) -> int:
        self._lines.append(line)
        return len(self._lines) - 1

    def load(self, address: str) -> int:
        """What lies there."""
        return self._append(_Line(f"ldr q<d>, [{address}]"))

    def add(self, a: int, b: int) -> int:
        """a + b."""
        return self._append(_Line("fadd v<d>.4s, v<0>.4s, v<1>.4s", (a, b)))

    def sub(self, a: int, b: int) -> int:
        """a - b."""
        return self._append(_Line("fsub v<d>.4s, v<0>.4s, v<1>.4s", (a, b)))

    def more(self, to: int, a: int, number: float) -> int:
        """to + a * number, rounded once."""
        verb, lane = "fmla" if number > 0 else "fmls", NUMBERS.index(abs(number))
        return self._append(_Line(f"{verb} v<0>.4s, v<1>.4s, v{KEPT}.s[{lane}]", (to, a), is_update=True))

    def store(self, value: int, address: str) -> None:
        """A result, behind its tail."""
        self._append(_Line(address, (value,), is_result=True))

    def lines(self, registers: range, end: Callable[[int, str], list[str]]) -> list[str]:
        """With registers, those that are free for the longest time first; `end` stores one at an address."""
        last = {v: i for i, line in enumerate(self._lines) for v in line.reads}
        free, at = deque(registers), dict[int, int]()
        made: list[str] = []
        for i, line in enumerate(self._lines):
            reads = [at[v] for v in line.reads]
            if line.is_result:
                made += end(reads[0], line.text)
            else:
                if line.is_update and last[line.reads[0]] == i:
                    at[i] = reads[0]
                else:
                    at[i] = free.popleft()
                if line.is_update and at[i] != reads[0]:
                    source = self._lines[line.reads[0]]
                    made.append(_filled(COPY if source.reads else source.text, at[i], reads))
                    reads[0] = at[i]
                made.append(_filled(line.text, at[i], reads))
            free.extend(at[v] for v in dict.fromkeys(line.reads) if last[v] == i and at[v] != at.get(i))
        return made


def _filled(text: str, result: int, reads: Sequence[int]) -> str:
    for j, register in enumerate(reads):
        text = text.replace(f"<{j}>", str(register))
    return text.replace("<d>", str(result))


def patch2(c: Code, p: Values) -> list[int]:
    """A line of a patch of 4 x 4."""
    return [c.sub(p(0), p(2)), c.add(p(1), p(2)), c.sub(p(2), p(1)), c.sub(p(1), p(3))]


def patch4_first(c: Code, p: Values) -> list[int]:
    """Half a line of a patch of 6 x 6."""
    even, odd = c.more(p(4), p(2), -4.0), c.more(p(3), p(1), -4.0)
    return [c.more(c.more(p(4), p(2), -5.0), p(0), 4.0), c.add(even, odd), c.sub(even, odd)]


def patch4_last(c: Code, p: Values) -> list[int]:
    """The other half."""
    even, odd = c.sub(p(4), p(2)), c.sub(p(3), p(1))
    return [c.more(even, odd, 2.0), c.more(even, odd, -2.0), c.more(c.more(p(5), p(3), -5.0), p(1), 4.0)]


def products2(c: Code, p: Values) -> list[int]:
    """A line of products of a tile of 2 x 2."""
    return [c.add(p(0), c.add(p(1), p(2))), c.sub(c.sub(p(1), p(2)), p(3))]


def products4(c: Code, p: Values) -> list[int]:
    """A line of products of a tile of 4 x 4."""
    sum1, sum2, difference1, difference2 = c.add(p(1), p(2)), c.add(p(3), p(4)), c.sub(p(1), p(2)), c.sub(p(3), p(4))
    first, second = c.add(p(0), c.add(sum1, sum2)), c.more(difference1, difference2, 2.0)
    return [first, second, c.more(sum1, sum2, 4.0), c.add(c.more(difference1, difference2, 8.0), p(5))]


def tail_of(tail: Expression) -> Tail | None:
    """The tail of a result, on the fewest registers right before that of the numbers; None if it does not fit."""
    tails = (Tail(tail, range(KEPT - count, KEPT), 1) for count in range(MOST + 1))
    return next((one for one in tails if one.fits), None)


class Part(NamedTuple):
    """Some results of a line, and which they are."""

    transform: Callable[[Code, Values], list[int]]
    results: tuple[int, ...]


PATCHES = {2: [Part(patch2, (0, 1, 2, 3))], 4: [Part(patch4_first, (0, 1, 2)), Part(patch4_last, (3, 4, 5))]}
PRODUCTS = {2: [Part(products2, (0, 1))], 4: [Part(products4, (0, 1, 2, 3))]}


def loop(parts: Sequence[Part], size: int, tail: Expression = RESULT) -> list[str]:
    """A turn of the loop over channels: lines of `size` places are transformed both ways. Pointers are to the rows that
    are read, to those that are written, and to those of the tail's other operand."""
    code = Code()
    results = sum(len(part.results) for part in parts)
    for one in parts:
        columns = [one.transform(code, cache(partial(_place, code, b))) for b in range(size)]
        for i, at in enumerate(one.results):
            row = [column[i] for column in columns]
            for part in parts:
                for b, value in zip(part.results, part.transform(code, row.__getitem__), strict=True):
                    code.store(value, f"{ROWS[size + at]}, {COLUMNS[b]}")
    end = tail_of(tail)
    assert end is not None

    def stored(register: int, address: str) -> list[str]:
        lines = [*end.row([register]), f"str q{register}, [{address}]"]
        if end.has_other:
            pointer, column = address.split(", ")
            lines.insert(0, f"ldr q{end.others[0]}, [{ROWS[ROWS.index(pointer) + results]}, {column}]")
        return lines

    registers = range(KEPT - len(set(end.used)))
    return ordered([*code.lines(registers, stored), *(f"add {x}, {x}, #16" for x in COLUMNS[:size])], is_loop=True)


def _place(code: Code, column: int, row: int) -> int:
    return code.load(f"{ROWS[row]}, {COLUMNS[column]}")

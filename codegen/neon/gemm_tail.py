"""The ends of tiles as instructions: expressions of results that are still in registers."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from math import isfinite
from typing import NamedTuple

from codegen.expression import Apply, Expression, Number, Operand, operands

MNEMONICS = {
    "add": "fadd",
    "sub": "fsub",
    "mul": "fmul",
    "div": "fdiv",
    "neg": "fneg",
    "abs": "fabs",
    "max": "fmax",
    "min": "fmin",
    "sqrt": "fsqrt",
}


class Constant(NamedTuple):
    """A number of a tail, in each lane of a register. `operand` is the general register that holds it, if no
    instruction can."""

    register: int
    line: str
    operand: str
    bits: int


class Tail:
    """An expression of accumulators (operand 0) and one other vector (operand 1), on the registers that are free.

    constants  to be loaded before
    fits       whether there are instructions and registers for it

    `lanes` are those of a register: 4s of floats, 8h of halves.
    """

    def __init__(self, expression: Expression, free: Sequence[int], vectors: int, lanes: str = "4s") -> None:
        self._root, self._vectors, self._lanes = expression, vectors, lanes
        self._steps = _steps(expression)
        self.has_other = any(o.index == 1 for o in operands(expression))
        self.is_empty = isinstance(expression, Operand) and expression.index == 0
        numbers = list(dict.fromkeys(a for s in self._steps for a in s.arguments if isinstance(a, Number)))
        known = all(s.function in MNEMONICS for s in self._steps) and all(
            is_held(float(n.value), lanes) for n in numbers
        )
        pool = list(free)
        self.others = [pool.pop(0) for _ in range(vectors)] if self.has_other and len(pool) >= vectors else []
        count = len(numbers)
        self.constants = [
            constant(float(n.value), r, i, lanes) for i, (n, r) in enumerate(zip(numbers, pool, strict=False))
        ]
        self._numbers = dict(zip(numbers, pool, strict=False))
        self._pool = pool[count:]
        is_possible = known and (self.is_empty or bool(self._steps)) and len(pool) >= count
        self._need = self._temporaries() if is_possible else REFUSED
        self.fits = len(self._pool) >= self._need and (not self.has_other or bool(self.others))

    @property
    def used(self) -> list[int]:
        """The registers that it takes of those that were free."""
        width = min(len(self._pool), self._need * self._vectors)
        return [*self.others, *(c.register for c in self.constants), *self._pool[:width]]

    def row(self, accumulators: Sequence[int]) -> list[str]:
        """The instructions for the accumulators of a row, which are replaced; those of as many vectors as registers
        allow stand side by side."""
        if self.is_empty:
            return []
        width = len(accumulators) if not self._need else max(1, min(len(accumulators), len(self._pool) // self._need))
        lines: list[str] = []
        for first in range(0, len(accumulators), width):
            part = range(first, min(first + width, len(accumulators)))
            each = [self._vector(accumulators[j], j, (j - first) * self._need) for j in part]
            lines += chain.from_iterable(zip(*each, strict=True))
        return lines

    def _vector(self, accumulator: int, j: int, first: int) -> list[str]:
        other = self.others[j] if self.has_other else 0
        temporaries = self._pool[first : first + self._need]
        return [line for line, _ in self._allocated(accumulator, other, temporaries)]

    def _temporaries(self) -> int:
        """Registers that a vector takes besides its accumulator."""
        many = range(REFUSED, REFUSED + len(self._steps))
        return len({r for _, r in self._allocated(0, 0, many) if r >= many.start})

    def _allocated(self, accumulator: int, other: int, temporaries: Sequence[int]) -> Iterator[tuple[str, int]]:
        """Each instruction with the register of its result: the last is the accumulator's."""
        at: dict[Apply, int] = {}
        left = Counter(a for s in self._steps for a in s.arguments if not isinstance(a, Number))
        spare = [*reversed(temporaries)]

        def place(e: Expression) -> int:
            if isinstance(e, Number):
                return self._numbers[e]
            if isinstance(e, Operand):
                return accumulator if e.index == 0 else other
            return at[e]

        for step in self._steps:
            sources = [f"v{place(a)}.{self._lanes}" for a in step.arguments]
            for a in step.arguments:
                if isinstance(a, Number):
                    continue
                left[a] -= 1
                is_own = isinstance(a, Apply) or a.index == 0
                if is_own and not left[a] and place(a) not in spare:
                    spare.append(place(a))
            spare.sort(key=lambda r: r == accumulator)  # it is taken first, and by the last step
            at[step] = accumulator if step == self._root else spare.pop()
            yield f"{MNEMONICS[step.function]} v{at[step]}.{self._lanes}, {', '.join(sources)}", at[step]


REFUSED = 1000  # more than there are registers


def _steps(expression: Expression) -> list[Apply]:
    """The applications, each once, operands first."""
    found: dict[Apply, None] = {}

    def visit(e: Expression) -> None:
        if isinstance(e, Apply) and e not in found:
            for a in e.arguments:
                visit(a)
            found[e] = None

    visit(expression)
    return list(found)


def constant(value: float, register: int, index: int, lanes: str = "4s") -> Constant:
    """How a number comes into a register."""
    integer, real = ("<H", "<e") if lanes == "8h" else ("<I", "<f")
    if lanes == "8h" and not is_held(value, lanes):
        value = 0.0  # nobody reads it
    bits = struct.unpack(integer, struct.pack(real, value))[0]
    if bits == 0:
        return Constant(register, f"movi v{register}.4s, #0", "", bits)
    if is_immediate(value):
        return Constant(register, f"fmov v{register}.{lanes}, #{value!r}", "", bits)
    name = f"c{index}"
    return Constant(register, f"dup v{register}.{lanes}, %w[{name}]", name, bits)


def is_held(value: float, lanes: str) -> bool:
    """Whether lanes hold a number, with its digits: halves go from 2^-14 to 65504."""
    return lanes != "8h" or value == 0 or not isfinite(value) or 2.0**-14 <= abs(value) <= 65504


def is_immediate(value: float) -> bool:
    """Whether `fmov` has it: 16 to 31 sixteenths times a power of two from -3 to 4."""
    return any(abs(value) * 2.0**-e * 16 in range(16, 32) for e in range(-3, 5))

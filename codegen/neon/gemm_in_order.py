"""The schedules for cores that issue in order (Cortex-A53, A55, A510): what waits there holds up all that follows. They
are made for LLVM's model of the Cortex-A55: two instructions a cycle whatever they are, one of them a load at the most.

- A load that moves its own address on makes the next one wait: rows are read at an offset that all share, and pointers
to weights move on long before they are used.
- Elements of x are loaded right after the last use of the register that they go to, a row after the other, and each
step takes its rows in the same order, so that no product waits for them. In the last turn they are read again from
where they are, since there are no more.
- Results are written in the order of the program, but for those of `fmla`. So nothing else stands behind the load of
four registers, which takes eleven cycles, until it is complete, nor shortly before the branch, which takes one.
- Those of `sdot` are written in that order too: weights are loaded one by one, or all products would wait for them.
"""

from __future__ import annotations

from codegen.neon.gemm_schedule import CHUNK, ROW, VECTOR, WEIGHTS, Schedule, registers

ODD, OFFSET, SECOND, BEYOND = "x6", "x3", "x2", "x1"
LATE = 3  # rows that are loaded at the begin of the step that needs them: so many products stand before the branch
GAP = 4  # rows from a load to the product that takes it, at least


class InOrder(Schedule):
    """As its base, with one register of x for each row and two chunks of weights: the first one is loaded before the
    loop and what is left over, the second one in them."""

    __slots__ = ()

    @property
    def general(self) -> list[str]:
        """General registers that the loop takes."""
        return [OFFSET, SECOND, BEYOND]

    @property
    def turns(self) -> tuple[str, str]:
        """The bytes of a row that the loop takes."""
        return "turned", f"depth / {self.per_turn} * {2 * VECTOR}"

    @property
    def late(self) -> int:
        """Rows that are loaded when the step has begun that needs them: the last ones."""
        return max(0, min(LATE, self.rows - GAP))

    @property
    def numbers(self) -> list[str]:
        """Instructions on the offsets of rows: where the second elements of a turn are, and the first of the next."""
        second, beyond = f"add {SECOND}, {OFFSET}, #{VECTOR}", f"adds {BEYOND}, {OFFSET}, #{2 * VECTOR}"
        return [second, beyond, f"csel {OFFSET}, {OFFSET}, {BEYOND}, eq"]

    def begin(self) -> list[str]:
        """The first weights, and pointers to the next ones."""
        step = CHUNK * VECTOR
        return [f"add {ODD}, {WEIGHTS}, #{step}", self._chunk(0), f"add {WEIGHTS}, {WEIGHTS}, #{2 * step}"]

    def enter(self) -> list[str]:
        """Rows are pointed at where their last turn ends."""
        moved = [f"add x{ROW + i}, x{ROW + i}, %[turned]" for i in range(self.rows)]
        return [*moved, f"neg {OFFSET}, %[turned]", *(self._row(i, OFFSET) for i in range(self.rows - self.late))]

    def rest(self, elements: int) -> list[str]:
        """As that of its base, behind the second chunk."""
        return [self._chunk(1), *super().rest(elements)]

    def turn(self) -> list[str]:
        """One turn of the loop but for its branch, whose condition is that there are elements left."""
        between = self._between()
        lines: list[str] = []
        for step in range(self.steps):
            for i in range(self.rows):
                lines += [self._multiply(i, j, step, 1) for j in range(self.vectors)]
                lines += between.get((step, i), [])
        return lines

    def _between(self) -> dict[tuple[int, int], list[str]]:
        """What stands behind the products of a row in a step."""
        lanes, found, numbers = self.instruction.lanes, self._rows_between(), self.numbers
        chunks = self.steps * self.vectors // CHUNK
        for chunk in range(1, chunks + 1):
            used = (chunk - 1) * CHUNK // self.vectors - 1  # the last step with what is there before
            is_late = used % lanes == lanes - 1
            place = (used + 1, min(LATE, self.rows - 1)) if is_late else (used, self.rows - 1)
            moved = [self._move(chunk - 1)] * (chunk > 1)
            found.setdefault(place, []).extend([*numbers[:1], *moved, self._chunk(chunk)])
            del numbers[:1]
        found.setdefault((self.steps - 1, 0), [])[:0] = [*numbers, self._move(chunks)]
        return found

    def _rows_between(self) -> dict[tuple[int, int], list[str]]:
        """The loads of x."""
        lanes, early = self.instruction.lanes, self.rows - self.late
        found: dict[tuple[int, int], list[str]] = {}
        for half, (now, then) in enumerate(((OFFSET, SECOND), (SECOND, OFFSET))):
            for i in range(early):
                found[(half + 1) * lanes - 1, i] = [self._row(i, then)]
            for i in range(self.late):
                found[half * lanes, i] = [self._row(early + i, now)]
        return found

    def _row(self, row: int, offset: str) -> str:
        return f"ldr q{self.x(row, 0)}, [x{ROW + row}, {offset}]"

    def _chunk(self, chunk: int) -> str:
        return f"ld1 {registers(self.w(chunk * CHUNK), CHUNK)}, [{ODD if chunk % 2 else WEIGHTS}]"

    def _move(self, chunk: int) -> str:
        """The pointer that a chunk was loaded from goes on."""
        pointer = ODD if chunk % 2 else WEIGHTS
        return f"add {pointer}, {pointer}, #{2 * CHUNK * VECTOR}"


class InOrderSingly(InOrder):
    """With weights that are loaded one by one, all that the registers hold before the loop."""

    __slots__ = ()

    def begin(self) -> list[str]:
        """The first weights."""
        return Schedule.begin(self)

    def rest(self, elements: int) -> list[str]:
        """The steps that are left over."""
        return Schedule.rest(self, elements)

    def _between(self) -> dict[tuple[int, int], list[str]]:
        """What stands behind the products of a row in a step."""
        found = self._rows_between()
        beside = dict(enumerate(self.numbers))
        beside[self.steps - 1] = f"add {WEIGHTS}, {WEIGHTS}, #{self.steps * self.vectors * VECTOR}"
        for step in range(self.steps):
            loads = [self._single(step * self.vectors + j) for j in range(self.vectors)]
            lines = [*loads, *([beside[step]] if step in beside else [])]
            found.setdefault((step, self.rows - 1), [])[:0] = lines
        return found

    def _single(self, vector: int) -> str:
        return f"ldr q{self.w(vector)}, [{WEIGHTS}, #{vector * VECTOR}]"

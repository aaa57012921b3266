"""The schedule for cores that issue in order (Cortex-A53, A55, A510): what waits there holds up all that follows.

- A load that moves its own address on makes the next one wait: rows are read at an offset that all share, weights
through two pointers that take turns and move on long before they are used.
- Elements of x are loaded right after the last use of the register that they go to, a row after the other, and each
step takes its rows in the same order, so that no product waits for them. In the last turn they are read again from
where they are, since there are no more.
- Instructions on general registers stand right before the loads of weights, which take the load unit eight cycles.
"""

from __future__ import annotations

from codegen.neon.gemm_schedule import CHUNK, ROW, VECTOR, WEIGHTS, Schedule, registers

ODD, OFFSET, SECOND, BEYOND = "x6", "x3", "x2", "x1"


class InOrder(Schedule):
    """As its base, with one register of x for each row and two chunks of weights."""

    __slots__ = ()

    @property
    def general(self) -> list[str]:
        """General registers that the loop takes."""
        return [OFFSET, SECOND, BEYOND]

    @property
    def turns(self) -> tuple[str, str]:
        """The bytes of a row that the loop takes."""
        return "turned", f"depth / {self.per_turn} * {2 * VECTOR}"

    def begin(self) -> list[str]:
        """The first weights, through both pointers."""
        step = CHUNK * VECTOR
        first = [f"add {ODD}, {WEIGHTS}, #{step}", self._chunk(0), f"add {WEIGHTS}, {WEIGHTS}, #{2 * step}"]
        return [*first, self._chunk(1)]

    def enter(self) -> list[str]:
        """Rows are pointed at where their last turn ends."""
        moved = [f"add x{ROW + i}, x{ROW + i}, %[turned]" for i in range(self.rows)]
        return [*moved, f"neg {OFFSET}, %[turned]", *(self._row(i, OFFSET) for i in range(self.rows))]

    def turn(self) -> list[str]:
        """One turn of the loop but for its branch, whose condition is that there are elements left."""
        lanes = self.instruction.lanes
        numbers = {
            0: f"add {SECOND}, {OFFSET}, #{VECTOR}",
            lanes // 2: f"adds {BEYOND}, {OFFSET}, #{2 * VECTOR}",
            lanes: f"csel {OFFSET}, {OFFSET}, {BEYOND}, eq",
        }
        lines: list[str] = []
        chunk = 0
        for step in range(2 * lanes):
            at = SECOND if step < lanes else OFFSET
            for i in range(self.rows):
                lines += [self._multiply(i, j, step, 1) for j in range(self.vectors)]
                lines += [self._row(i - 1, at)] * (i > 0 and (step + 1) % lanes == 0)
            lines += [self._row(self.rows - 1, at)] * ((step + 1) % lanes == 0)
            if step in numbers:
                lines.insert(-1, numbers[step])
            while chunk < (step + 1) * self.vectors // CHUNK:
                other = WEIGHTS if chunk % 2 else ODD
                lines.insert(-1, f"add {other}, {other}, #{2 * CHUNK * VECTOR}")
                lines.append(self._chunk(chunk))
                chunk += 1
        return lines

    def _row(self, row: int, offset: str) -> str:
        return f"ldr q{self.x(row, 0)}, [x{ROW + row}, {offset}]"

    def _chunk(self, chunk: int) -> str:
        return f"ld1 {registers(self.w(chunk * CHUNK), CHUNK)}, [{ODD if chunk % 2 else WEIGHTS}]"

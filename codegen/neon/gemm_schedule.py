"""Schedules of the inner loops of products of matrices: which instructions, in which order, on which registers.

A tile keeps rows x vectors accumulators in registers. A step takes one lane of a register of each row of x, which are
loaded as they lie in memory, and the vectors of w that belong to it, which are packed one after the other; each
accumulator takes one multiply-accumulate "by element". Weights are loaded four registers at a time into a ring of
registers, each as soon as it is free: so up to `Schedule.overread` bytes beyond the last weights are read. Rows of x
are never read beyond their end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

REGISTERS = 32
CHUNK = 4  # registers that one load of weights fills
VECTOR = 16  # bytes of a register
ROW = 8  # the general register that points into the first row of x; the others follow
ROWS = 8  # at most
WEIGHTS, COUNT, LEVELS = "x16", "x17", ("x7", "x5", "x4")
PARTS = ((16, "q", ""), (8, "d", "d"), (4, "s", "s"), (2, "h", "h"), (1, "b", "b"))  # bytes, register, lane


class Instruction(NamedTuple):
    """A multiply-accumulate by element: a vector of w times `group` successive elements of a row of x, which are one
    lane of a register of them."""

    mnemonic: str = "fmla"
    accumulator: str = "4s"
    weights: str = "4s"
    lane: str = "s"
    lanes: int = 4
    group: int = 1

    @property
    def columns(self) -> int:
        """Of a vector of w."""
        return int(self.accumulator[:-1])

    @property
    def size(self) -> int:
        """Bytes of an element of x."""
        return VECTOR // (self.lanes * self.group)


FMLA = Instruction()


class Schedule(NamedTuple):
    """How a tile is computed.

    depth   registers of each row of x that are loaded at once
    chunks  of the ring of weights, each of four registers
    """

    rows: int
    vectors: int
    depth: int = 2
    chunks: int = 2
    instruction: Instruction = FMLA

    # -- registers -------------------------------------------------------------------------------------------

    def x(self, row: int, at: int) -> int:
        """The register of a row of x; these come first, because some instructions take lanes of the first 16 only."""
        return row * self.depth + at

    def w(self, vector: int) -> int:
        """The register of a vector of the stream of weights."""
        return self.rows * self.depth + vector % (self.chunks * CHUNK)

    def accumulator(self, row: int, vector: int) -> int:
        """The register of an accumulator."""
        return self.rows * self.depth + self.chunks * CHUNK + row * self.vectors + vector

    @property
    def registers(self) -> int:
        """How many it takes."""
        return self.accumulator(self.rows, 0)

    @property
    def free(self) -> list[int]:
        """Registers that hold nothing when the accumulators are complete."""
        used = range(self.accumulator(0, 0), self.registers)
        return [r for r in range(REGISTERS) if r not in used]

    # -- loops -----------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Of one turn of the loop: a multiple of the loads of x, and of the ring of weights."""
        return max(2, self.depth) * self.instruction.lanes

    @property
    def per_turn(self) -> int:
        """Elements of a row that one turn takes."""
        return self.steps * self.instruction.group

    @property
    def overread(self) -> int:
        """Bytes of weights that are loaded and not used, at most."""
        return self.chunks * CHUNK * VECTOR

    def begin(self) -> list[str]:
        """The first weights; behind them the loop may be entered."""
        return [self._load_weights(c) for c in range(self.chunks)]

    @property
    def general(self) -> list[str]:
        """General registers that the loop takes."""
        return [COUNT]

    @property
    def turns(self) -> tuple[str, str]:
        """The operand that tells how many turns there are, and what it is in C."""
        return "turns", f"depth / {self.per_turn}"

    def enter(self) -> list[str]:
        """What comes right before the loop."""
        return [f"mov {COUNT}, %[turns]"]

    def turn(self) -> list[str]:
        """One turn of the loop but for its branch."""
        lines: list[str] = []
        for step, products in enumerate(self._stream(self.steps, ahead=True)):
            if step % (self.instruction.lanes * self.depth) == 0:
                lines += [self._load_rows(i) for i in range(self.rows)]
            if step == 0:
                lines.append(f"subs {COUNT}, {COUNT}, #1")
            lines += products
        return lines

    def rest(self, elements: int) -> list[str]:
        """The steps that are left over, of fewer elements than a turn takes, with exact loads of x."""
        size, group = self.instruction.size, self.instruction.group
        stream = self._stream(-(-elements // group), ahead=False)
        lines: list[str] = []
        for first in range(0, elements, self.instruction.lanes * group):
            part = min(elements - first, self.instruction.lanes * group)
            for i in range(self.rows):
                lines += load_part(self.x(i, 0), part * size, f"x{ROW + i}")
            for _ in range(-(-part // group)):
                lines += next(stream)
        return lines

    def surplus(self, elements: int) -> int:
        """Bytes by which the pointer to the weights is ahead after the `rest` of so many elements."""
        steps = -(-elements // self.instruction.group)
        return (self._loaded(steps) * CHUNK - steps * self.vectors) * VECTOR

    # -- parts -----------------------------------------------------------------------------------------------

    def _loaded(self, steps: int) -> int:
        """Chunks that are loaded when so many last steps are done."""
        return max(self.chunks, -(-steps * self.vectors // CHUNK))

    def _stream(self, steps: int, *, ahead: bool) -> Iterator[list[str]]:
        """The products of each step, and the loads of weights that follow the last use of a chunk. Lanes are those of
        the first register of x in steps that are left over, else they go on through all of them."""
        for step in range(steps):
            lines: list[str] = []
            for j in range(self.vectors):
                lines += [self._multiply(i, j, step, 1 if not ahead else self.depth) for i in range(self.rows)]
                chunk, at = divmod(step * self.vectors + j, CHUNK)
                if at == CHUNK - 1 and (ahead or chunk + self.chunks < self._loaded(steps)):
                    lines.append(self._load_weights(chunk + self.chunks))
            yield lines

    def _multiply(self, i: int, j: int, step: int, depth: int) -> str:
        op = self.instruction
        at, lane = divmod(step % (op.lanes * depth), op.lanes)
        acc, w, x = self.accumulator(i, j), self.w(step * self.vectors + j), self.x(i, at)
        return f"{op.mnemonic} v{acc}.{op.accumulator}, v{w}.{op.weights}, v{x}.{op.lane}[{lane}]"

    def _load_weights(self, chunk: int) -> str:
        return f"ld1 {registers(self.w(chunk * CHUNK), CHUNK)}, [{WEIGHTS}], #{CHUNK * VECTOR}"

    def _load_rows(self, row: int) -> str:
        pointer = f"[x{ROW + row}], #{VECTOR * self.depth}"
        if self.depth == 1:
            return f"ldr q{self.x(row, 0)}, {pointer}"
        return f"ld1 {registers(self.x(row, 0), self.depth)}, {pointer}"


def load_part(register: int, nbytes: int, pointer: str) -> list[str]:
    """The first bytes of a register, from a pointer that goes on behind them."""
    return move_part(register, nbytes, pointer, "ld")


def move_part(register: int, nbytes: int, pointer: str, verb: str) -> list[str]:
    """Load (ld) or store (st) the first bytes of a register."""
    lines: list[str] = []
    done = 0
    for width, whole, lane in PARTS:
        if nbytes - done >= width:
            part = f"{verb}1 {{v{register}.{lane}}}[{done // width}]" if done else f"{verb}r {whole}{register}"
            lines.append(f"{part}, [{pointer}], #{width}")
            done += width
    return lines


def registers(first: int, count: int) -> str:
    """A list of successive vectors."""
    return "{" + ", ".join(f"v{r}.4s" for r in range(first, first + count)) + "}"

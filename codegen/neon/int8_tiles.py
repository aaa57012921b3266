"""Inner loops of products of matrices of bytes, for three generations of processors.

Each keeps the sums of a tile of rows x columns in registers, four columns in a vector:

    dotprod  `sdot` by element: four successive elements of a row, times the same of each of four columns
    i8mm     `smmla`: eight successive elements of two rows, times the same of two columns
    base     `smull` and `smlal2`: sixteen elements of a row times those of a column, in 16 bits, which hold two
             products if no weight is -128; `sadalp` adds up pairs of them

Weights are packed as they are read: for each group of `group` elements of a row, for each column, those elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from codegen.neon.gemm_in_order import InOrderSingly
from codegen.neon.gemm_schedule import CHUNK, COUNT, REGISTERS, ROW, VECTOR, WEIGHTS, Instruction, Schedule, load_part

SDOT = Instruction("sdot", "4s", "16b", "4b", 4, 4)
MOST_SUMS = 16  # accumulators: the end of a tile needs as many registers for itself


class Group(NamedTuple):
    """Sums that end in the same way: accumulators, whose lanes are the columns of a row, or of two rows, two by two."""

    sums: list[int]
    rows: list[int]


class Counted:
    """A loop that counts its turns."""

    per_turn: int
    general: Sequence[str] = (COUNT,)  # registers that the loop takes

    @property
    def turns(self) -> tuple[str, str]:
        """The operand that tells how many turns there are, and what it is in C."""
        return "turns", f"depth / {self.per_turn}"

    def enter(self) -> list[str]:
        """What stands before the first turn."""
        return [f"mov {COUNT}, %[turns]"]


class DotTile:
    """By `sdot`."""

    group = 4
    copies = 1  # how often a column occurs in a vector of biases

    def __init__(self, rows: int, vectors: int, in_order: bool = False) -> None:
        self.rows, self.vectors = rows, vectors
        forms = ((1, 2),) if in_order else ((2, 2), (1, 2), (1, 1))
        made = [(InOrderSingly if in_order else Schedule)(rows, vectors, d, c, SDOT) for d, c in forms]
        self._schedule = next((s for s in made if s.registers <= REGISTERS), made[-1])
        self.general, self.turns, self.enter = self._schedule.general, self._schedule.turns, self._schedule.enter
        self.per_turn = self._schedule.per_turn
        self.begin, self.turn, self.rest = self._schedule.begin, self._schedule.turn, self._schedule.rest
        self.surplus, self.registers = self._schedule.surplus, self._schedule.registers

    @property
    def groups(self) -> list[Group]:
        """Those of each row."""
        s = self._schedule
        return [Group([s.accumulator(i, j) for j in range(self.vectors)], [i]) for i in range(self.rows)]

    def start(self) -> list[str]:
        """The sums are the biases, which lie before the weights."""
        return started(self.groups)

    def reduce(self, _: int) -> list[str]:
        """The sums are complete."""
        return []


class MatrixTile(Counted):
    """By `smmla`: an accumulator has two columns of a row, then those of the next row."""

    group = 8
    copies = 2
    per_turn = 32

    def __init__(self, rows: int, vectors: int) -> None:
        self.rows, self.vectors = rows, vectors
        self.pairs = -(-rows // 2)
        self._w = 2 * self.pairs + 1
        self._sums = self._w + 2 * CHUNK
        self.registers = self._sums + self.pairs * 2 * vectors

    @property
    def groups(self) -> list[Group]:
        """Those of each pair of rows; the last one may have one row."""
        wide = 2 * self.vectors
        return [
            Group([self._sums + p * wide + j for j in range(wide)], [r for r in (2 * p, 2 * p + 1) if r < self.rows])
            for p in range(self.pairs)
        ]

    def start(self) -> list[str]:
        """The sums are the biases, which lie before the weights."""
        return started(self.groups)

    def reduce(self, _: int) -> list[str]:
        """The sums are complete."""
        return []

    def begin(self) -> list[str]:
        """The first weights; behind them the loop may be entered."""
        return [self._load_weights(c) for c in range(2)]

    def turn(self) -> list[str]:
        """One turn of the loop but for its branch."""
        lines = [f"subs {COUNT}, {COUNT}, #1"]
        stream = self._stream(4, ahead=True)
        for _ in range(2):
            lines += [f"ldr q{r}, [x{ROW + r}], #{VECTOR}" for r in range(self.rows)]
            lines += [*self._paired(), *next(stream), *next(stream)]
        return lines

    def rest(self, elements: int) -> list[str]:
        """The steps that are left over, of fewer elements than a turn takes, with exact loads of x."""
        stream = self._stream(-(-elements // 8), ahead=False)
        lines: list[str] = []
        for first in range(0, elements, VECTOR):
            part = min(elements - first, VECTOR)
            for r in range(self.rows):
                lines += load_part(r, part, f"x{ROW + r}")
            lines += self._paired()
            for _ in range(-(-part // 8)):
                lines += next(stream)
        return lines

    def surplus(self, elements: int) -> int:
        """Bytes by which the pointer to the weights is ahead after the `rest` of so many elements."""
        steps = -(-elements // 8)
        return (self._loaded(steps) * CHUNK - steps * 2 * self.vectors) * VECTOR

    def _loaded(self, steps: int) -> int:
        return max(2, -(-steps * 2 * self.vectors // CHUNK))

    def _operands(self) -> list[tuple[int, int]]:
        """For each pair of rows the registers of their first eight elements, and of the next ones: in place of the
        second row, and of the first one of the pair before."""
        return [(2 * self.pairs if p == 0 else 2 * p - 2, 2 * p + 1) for p in range(self.pairs)]

    def _paired(self) -> list[str]:
        """Rows become pairs of rows."""
        lines: list[str] = []
        for p, (low, high) in enumerate(self._operands()):
            a, b = 2 * p, min(2 * p + 1, self.rows - 1)
            lines += [f"zip1 v{low}.2d, v{a}.2d, v{b}.2d", f"zip2 v{high}.2d, v{a}.2d, v{b}.2d"]
        return lines

    def _stream(self, steps: int, *, ahead: bool) -> Iterator[list[str]]:
        """The products of each step, and the loads of weights that follow the last use of a chunk."""
        wide = 2 * self.vectors
        operands, groups = self._operands(), self.groups
        for step in range(steps):
            lines: list[str] = []
            for j in range(wide):
                at = step * wide + j
                w = self._w + at % (2 * CHUNK)
                lines += [
                    f"smmla v{g.sums[j]}.4s, v{operands[p][step % 2]}.16b, v{w}.16b" for p, g in enumerate(groups)
                ]
                chunk, place = divmod(at, CHUNK)
                if place == CHUNK - 1 and (ahead or chunk + 2 < self._loaded(steps)):
                    lines.append(self._load_weights(chunk + 2))
            yield lines

    def _load_weights(self, chunk: int) -> str:
        return loaded(self._w + chunk % 2 * CHUNK, CHUNK)


class LongTile(Counted):
    """By `smull`, `smlal2` and `sadalp`: an accumulator has parts of one sum. Four columns."""

    group = 16
    copies = 1
    per_turn = 16

    def __init__(self, rows: int, vectors: int = 1, is_narrow: bool = True) -> None:
        assert vectors == 1
        self.rows, self.vectors, self._is_narrow = rows, vectors, is_narrow
        self._products = rows + CHUNK
        self._sums = self._products + 2 * CHUNK
        self.registers = self._sums + rows * CHUNK

    @property
    def groups(self) -> list[Group]:
        """Those of each row, once they are reduced."""
        return [Group([self._sums + i * CHUNK], [i]) for i in range(self.rows)]

    def start(self) -> list[str]:
        """Nothing is summed yet; biases are added in the end."""
        zeros = [f"movi v{r}.4s, #0" for r in range(self._sums, self.registers)]
        return [*zeros, f"add {WEIGHTS}, {WEIGHTS}, #{VECTOR}"]

    def reduce(self, biases: int) -> list[str]:
        """Parts become sums, and biases are added, which lie so many bytes behind the begin of the panel."""
        lines: list[str] = [f"ldr q{self.rows}, [%[w], #{biases}]"]
        for i in range(self.rows):
            a = self._sums + i * CHUNK
            lines += [f"addp v{r}.4s, v{r}.4s, v{r + 1}.4s" for r in (a, a + 2)]
            lines += [f"addp v{a}.4s, v{a}.4s, v{a + 2}.4s", f"add v{a}.4s, v{a}.4s, v{self.rows}.4s"]
        return lines

    def begin(self) -> list[str]:
        """Weights are loaded in each turn."""
        return []

    def surplus(self, _: int) -> int:
        """None are loaded ahead."""
        return 0

    def turn(self) -> list[str]:
        """One turn of the loop but for its branch."""
        loads = [f"ldr q{r}, [x{ROW + r}], #{VECTOR}" for r in range(self.rows)]
        return [f"subs {COUNT}, {COUNT}, #1", *loads, *self._products_of_all()]

    def rest(self, elements: int) -> list[str]:
        """Fewer elements than a turn takes, with exact loads of x."""
        lines: list[str] = []
        for r in range(self.rows):
            lines += load_part(r, elements, f"x{ROW + r}")
        return [*lines, *self._products_of_all()]

    def _products_of_all(self) -> list[str]:
        lines = [loaded(self.rows, CHUNK)]
        places = [(i, j) for j in range(CHUNK) for i in range(self.rows)]
        for first in range(0, len(places), 2 * CHUNK):
            some = list(enumerate(places[first : first + 2 * CHUNK], self._products))
            lines += [f"smull v{t}.8h, v{self.rows + j}.8b, v{i}.8b" for t, (i, j) in some]
            added = [f"sadalp v{self._sums + i * CHUNK + j}.4s, v{t}.8h" for t, (i, j) in some]
            verb = "smlal2" if self._is_narrow else "smull2"
            lines += added * (not self._is_narrow)
            lines += [f"{verb} v{t}.8h, v{self.rows + j}.16b, v{i}.16b" for t, (i, j) in some]
            lines += added
        return lines


Tile = DotTile | MatrixTile | LongTile
TILES: dict[str, type[DotTile] | type[MatrixTile] | type[LongTile]] = {
    "dotprod": DotTile,
    "i8mm": MatrixTile,
    "base": LongTile,
}
LIMITS = 3 * VECTOR  # bytes at the begin of a panel: the zero point, the least and the greatest result


def started(groups: list[Group]) -> list[str]:
    """Load the biases into each group of accumulators, and go on behind the last ones."""
    lines: list[str] = []
    wide = len(groups[0].sums)
    for group in groups:
        is_last = group is groups[-1]
        stays = wide <= CHUNK and not is_last
        parts = range(0, wide, CHUNK)
        lines += [loaded(group.sums[first], min(CHUNK, wide - first), stays=stays) for first in parts]
        lines += [f"sub {WEIGHTS}, {WEIGHTS}, #{VECTOR * wide}"] * (not stays and not is_last)
    return lines


def loaded(first: int, count: int, *, stays: bool = False) -> str:
    """Load successive vectors from where the weights are read."""
    names = ", ".join(f"v{r}.4s" for r in range(first, first + count))
    return f"ld1 {{{names}}}, [{WEIGHTS}]" + f", #{VECTOR * count}" * (not stays)

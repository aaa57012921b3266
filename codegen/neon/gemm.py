"""Products of matrices of floats: register-blocked micro-kernels, and what walks over their tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from codegen.expression import functions
from codegen.neon.gemm_model import schedule
from codegen.neon.gemm_schedule import CHUNK, FMLA, LEVELS, ROW, WEIGHTS, Instruction, Schedule, move_part, registers
from codegen.neon.gemm_tail import Constant, Tail
from codegen.neon.tailed import Tailed, other, suffix
from codegen.neon.vectors import loaded, stored
from codegen.program import Kernel, Parameter, sizes

WIDTH = 4  # floats of a vector
SIZE = 4  # bytes of a float
SPARE = "x6"
LABEL = 1  # of the loop; those around it follow
LINE = 104  # letters of instructions in a line of source


class Floats(Tailed):
    """What products of floats of 32 bits agree on: columns of a vector, bytes and type of an element, the instruction
    that multiplies, and what tells their names from those of others."""

    lanes: ClassVar[int] = WIDTH
    size: ClassVar[int] = SIZE
    ctype: ClassVar[str] = "float"
    instruction: ClassVar[Instruction] = FMLA
    kind: ClassVar[str] = ""

    def source(self, lines: Sequence[str]) -> list[str]:
        """Instructions as lines of source."""
        return packed(lines)


class Turn(Floats):
    """A turn of the loop of a tile, as a macro."""

    family = "gemm"
    template = "neon/gemm_turn.c.j2"
    is_internal = True
    is_assembly: ClassVar[bool] = True
    rows: int
    vectors: int
    in_order: bool = False

    @property
    def name(self) -> str:
        return f"TURN{self.kind.upper()}_{self.rows}X{self.lanes * self.vectors}{'_IN_ORDER' * self.in_order}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        return ()

    @property
    def schedule(self) -> Schedule:
        """Of the loop."""
        made = schedule(self.rows, self.vectors, self.instruction, in_order=self.in_order)
        assert made is not None
        return made

    @property
    def lines(self) -> list[str]:
        """Of source."""
        return self.source(self.schedule.turn())


class Strip(Floats):
    """Tiles of y = tail(x w + b), one below the other: each of `rows` rows of x and `columns` columns.

    w holds the biases of the columns, in whole vectors, then for each element of a row their weights; the tiles of a
    strip share it.

    rest      depth modulo the elements that a turn of the loop takes
    is_short  depth is less than that
    in_order  for cores that issue in order
    levels    a row of x is `depth` elements if this is 0; else `count1` times so many, `pitch1` apart, and that again
              `count2` times, `pitch2` apart, and so on
    """

    family = "gemm"
    template = "neon/gemm_strip.c.j2"
    is_internal = True
    is_assembly: ClassVar[bool] = True
    rows: int
    columns: int
    rest: int = 0
    is_short: bool = False
    levels: int = 0
    in_order: bool = False

    @property
    def name(self) -> str:
        depth = f"_k{self.rest}{'_only' if self.is_short else ''}" if self.rest else ""
        kind = f"conv{self.levels}" if self.levels else "gemm"
        return (
            f"{kind}{self.kind}_strip_{self.rows}x{self.columns}{depth}{'_in_order' * self.in_order}{suffix(self.tail)}"
        )

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = f"const {self.ctype} *"
        pointers = [Parameter(given, "x"), *sizes("ldx"), Parameter(given, "w"), *other(self.tail, self.ctype)]
        levels = [f"{name}{i}" for i in range(1, self.levels + 1) for name in ("count", "pitch")]
        return [*pointers, Parameter(f"{self.ctype} *", "y"), *sizes("ldy", "tiles", "depth", *levels)]

    @property
    def turn(self) -> Turn:
        """The loop."""
        return Turn(rows=self.rows, vectors=self.vectors, in_order=self.in_order)

    @property
    def needs(self) -> Sequence[Kernel]:
        return [] if self.is_short else [self.turn]

    @property
    def vectors(self) -> int:
        """Of a row of a tile."""
        return -(-self.columns // self.lanes)

    @property
    def last(self) -> int:
        """Columns in the last vector."""
        return self.columns - self.lanes * (self.vectors - 1)

    @property
    def schedule(self) -> Schedule:
        """Of the loop."""
        return self.turn.schedule

    @property
    def end(self) -> Tail:
        """The tail on registers."""
        return Tail(self.tail, self.schedule.free, self.vectors, self.instruction.accumulator)

    # -- intrinsics ------------------------------------------------------------------------------------------

    @property
    def quads(self) -> int:
        """Vectors of four results in a row of a tile."""
        return -(-self.columns // WIDTH)

    @property
    def padded(self) -> int:
        """Vectors of four in a row of w."""
        return self.vectors * self.lanes // WIDTH

    def quad(self, place: str) -> str:
        """Four elements of a row of results, or as many as are left."""
        return loaded(self.ctype, f"{place} + 4 * j", self._left)

    def put_quad(self, place: str, value: str) -> str:
        """The statement that stores them."""
        return stored(self.ctype, f"{place} + 4 * j", value, self._left)

    @property
    def _left(self) -> str:
        return f"{self.columns} - 4 * j" if self.columns % WIDTH else ""

    @property
    def sums(self) -> int:
        """Floats beside a tile, which sums of many halves are added to."""
        return 0

    # -- assembly --------------------------------------------------------------------------------------------

    @property
    def constants(self) -> list[Constant]:
        """Numbers of the tail that come in general registers."""
        return [c for c in self.end.constants if c.operand] if self.end.fits else []

    @property
    def clobbers(self) -> list[str]:
        """Registers that the assembly uses besides its operands."""
        used = [f"x{ROW + i}" for i in range(self.rows)] + [SPARE, WEIGHTS]
        used += [*self.schedule.general] * (not self.is_short) + [LEVELS[i] for i in range(self.levels)]
        end = self.end
        vectors = range(self.schedule.registers)
        extra = [r for r in end.used if r >= len(vectors)] if end.fits else []
        return used + [f"v{r}" for r in (*vectors, *extra)]

    def assembly(self) -> list[tuple[str, list[str]]]:
        """Blocks of instructions with what they do, the lines of source packed."""
        s = self.schedule
        blocks = [("the rows", self._rows()), ("one tile: biases", ["0:", f"mov {WEIGHTS}, %[w]", *self._biases()])]
        levels = range(self.levels, 0, -1)
        opened = [line for i in levels for line in (f"mov {LEVELS[i - 1]}, %[count{i}]", f"{LABEL + i}:")]
        first = [*s.begin(), *opened] if not self.rest else [*opened, *s.begin()]
        blocks.append(("its weights, which are loaded ahead", first))
        if not self.is_short:
            count = [*s.enter(), f"{LABEL}:"]
            blocks.append((f"{s.per_turn} elements of each row", [*count, self.turn.name, f"b.ne {LABEL}b"]))
        if self.rest:
            blocks.append((f"the last {self.rest}", s.rest(self.rest)))
        for i in range(1, self.levels + 1):
            back = [f"sub {WEIGHTS}, {WEIGHTS}, #{s.surplus(self.rest)}"] if self.rest and i == 1 else []
            moved = [f"add x{ROW + k}, x{ROW + k}, %[jump{i}]" for k in range(self.rows)]
            again = [*self._moved(i), f"subs {LEVELS[i - 1]}, {LEVELS[i - 1]}, #1", *back, *moved, f"b.ne {LABEL + i}b"]
            blocks.append(("the next part of each row", again))
        blocks += self._finish()
        moved = [f"add x{ROW + i}, x{ROW + i}, %[next]" for i in range(self.rows)]
        blocks.append(("the next tile", ["subs %[tiles], %[tiles], #1", *moved, "b.ne 0b"]))
        return [(title, self.source(lines)) for title, lines in blocks if lines]

    def _rows(self) -> list[str]:
        first = [f"mov x{ROW}, %[x]"]
        return first + [f"add x{ROW + i}, x{ROW + i - 1}, %[ldx]" for i in range(1, self.rows)]

    def _biases(self) -> list[str]:
        s, v = self.schedule, self.vectors
        lines: list[str] = []
        for i in range(self.rows):
            if v <= CHUNK:
                forward = f", #{16 * v}" if i == self.rows - 1 else ""
                lines.append(f"ld1 {registers(s.accumulator(i, 0), v)}, [{WEIGHTS}]{forward}")
                continue
            lines += _wide("ld", [s.accumulator(i, j) for j in range(v)], WEIGHTS)
        return lines if v <= CHUNK else [*lines, f"add {WEIGHTS}, {WEIGHTS}, #{16 * v}"]

    def _moved(self, level: int) -> list[str]:
        """What is done with the sums at the end of a part of a level."""
        return []

    def _complete(self, row: int) -> list[str]:
        """What is done with the sums of a row before its tail."""
        return []

    def _finish(self) -> list[tuple[str, list[str]]]:
        s, end = self.schedule, self.end
        lines = [c.line for c in end.constants] if end.fits else []
        for i in range(self.rows):
            row = [s.accumulator(i, j) for j in range(self.vectors)]
            lines += self._complete(i)
            if end.fits:
                lines += self._across("ld", end.others, "%[r]") if self.has_other else []
                lines += end.row(row)
            lines += self._across("st", row, "%[y]")
        title = f"{', '.join(functions(self.tail))}, then stored" if end.fits and functions(self.tail) else "results"
        return [(title, lines)]

    def _across(self, verb: str, row: list[int], pointer: str) -> list[str]:
        """Load or store a row of the result, and go on to the next one; no more than its columns."""
        if self.vectors <= CHUNK and self.last == self.lanes:
            return [f"{verb}1 {registers(row[0], self.vectors)}, [{pointer}], %[ldy]"]
        if self.last == self.lanes:
            return [*_wide(verb, row, pointer), f"add {pointer}, {pointer}, %[ldy]"]
        lines = [*_wide(verb, row[:-1], pointer), f"add {SPARE}, {pointer}, #{16 * (self.vectors - 1)}"]
        lines += move_part(row[-1], self.size * self.last, SPARE, verb)
        return [*lines, f"add {pointer}, {pointer}, %[ldy]"]

    @property
    def jumps(self) -> list[str]:
        """What pointers to rows go on by when a level ends, as text."""
        total, made = "depth", []
        for i in range(1, self.levels + 1):
            made.append(f"pitch{i} - {total}")
            total = f"count{i} * pitch{i}"
        return [*made, f"{self.rows} * ldx - {total}"]


class Gemm(Floats):
    """y [m, n] = tail(x [m, k] w [k, n] + b [n]), with m = `tiles` * rows + `last_tiles` * last_rows. `block` tiles are
    done with all columns before the next ones begin. Rows lie densely, or `ldx` and `ldy` elements apart if it
    `is_strided`."""

    family = "gemm"
    template = "neon/gemm.c.j2"
    rows: int
    vectors: int
    last_rows: int = 0
    last_columns: int = 0
    rest: int = 0
    is_short: bool = False
    is_strided: bool = False
    in_order: bool = False

    @property
    def name(self) -> str:
        last = f"_{self.last_rows}_{self.last_columns}" if self.last_rows or self.last_columns else ""
        depth = f"_k{self.rest}{'_only' if self.is_short else ''}" if self.rest else ""
        kind = "_strided" * self.is_strided + "_in_order" * self.in_order
        return f"gemm{self.kind}_{self.rows}x{self.columns}{last}{depth}{kind}{suffix(self.tail)}"

    @property
    def columns(self) -> int:
        """Of a tile."""
        return self.lanes * self.vectors

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = f"const {self.ctype} *"
        pointers = [Parameter(given, "x"), Parameter(given, "w"), *other(self.tail, self.ctype)]
        last, apart = ["last_tiles"] * bool(self.last_rows), ["ldx", "ldy"] * self.is_strided
        counts = ["tiles", *last, "n", "k", "block", *apart]
        return [*pointers, Parameter(f"{self.ctype} *", "y"), *sizes(*counts)]

    @property
    def needs(self) -> Sequence[Kernel]:
        heights = [h for h in (self.rows, self.last_rows) if h]
        return [self.strip(h, w) for h in heights for w in (self.columns, self.last_columns) if w]

    @property
    def unused(self) -> Sequence[str]:
        """Parameters that other variants take."""
        return ()

    @property
    def walked(self) -> str:
        """The last arguments of a strip."""
        return "k"

    def strip(self, rows: int, columns: int) -> Strip:
        """The micro-kernel of a size."""
        return Strip(
            rows=rows,
            columns=columns,
            rest=self.rest,
            is_short=self.is_short,
            in_order=self.in_order,
            tail=self.tail,
        )


def _wide(verb: str, row: list[int], pointer: str) -> list[str]:
    """Load or store whole vectors that lie one after the other, pairs at once; the pointer stays."""
    lines = [f"{verb}p q{row[j]}, q{row[j + 1]}, [{pointer}, #{16 * j}]" for j in range(0, len(row) - 1, 2)]
    return [*lines, f"{verb}r q{row[-1]}, [{pointer}, #{16 * (len(row) - 1)}]"] if len(row) % 2 else lines


def packed(lines: Sequence[str]) -> list[str]:
    """Lines of source: strings of some instructions each; labels, and macros as they are, on their own."""
    made: list[str] = []
    now = ""
    for line in lines:
        alone = line.endswith(":") or line.isupper()
        if now and (alone or len(now) + len(line) > LINE):
            made.append(f'"{now}"')
            now = ""
        if alone:
            made.append(line if line.isupper() else f'"{line}\\n"')
        else:
            now += f"{line}\\n "
    return [*made, f'"{now}"'] if now else made

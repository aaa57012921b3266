"""Products of matrices of bytes, and convolutions as such: strips of tiles, and what walks over them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from codegen.neon.assembly import INT8, packed
from codegen.neon.gemm_schedule import LEVELS, REGISTERS, ROW, VECTOR, WEIGHTS, move_part
from codegen.neon.int8_ending import Ending
from codegen.neon.int8_tiles import TILES, DotTile, LongTile, MatrixTile, Tile
from codegen.neon.tailed import digest
from codegen.program import Kernel, Parameter, sizes

LANES = 4
SPARE = "x6"
LABEL = 1
NO_ENDING = Ending()
PARTS = 48  # of which threads take some each: numbers that small numbers of threads divide


class Form(Kernel):
    """What strips and those that walk over them agree on.

    variant    which tiles: base, dotprod or i8mm
    rest       elements of a row modulo what a turn of the loop takes
    is_short   they are fewer
    levels     a row is `depth` elements if this is 0; else `count1` times so many, `pitch1` apart, and so on
    is_narrow  no weight is -128
    in_order   for cores that issue in order
    """

    family = "int8"
    variant: str
    rest: int = 0
    is_short: bool = False
    levels: int = 0
    is_narrow: bool = True
    in_order: bool = False
    ending: Ending = NO_ENDING

    @property
    def suffix(self) -> str:
        """Of names."""
        depth = f"_k{self.rest}{'_only' if self.is_short else ''}" if self.rest else ""
        wide = "" if self.is_narrow or self.variant != "base" else "_wide"
        kind = f"{f'_{self.levels}d' if self.levels else ''}{'_in_order' * self.in_order}"
        return f"{kind}{depth}{wide}{self.ending.suffix}"

    @property
    def walk(self) -> list[Parameter]:
        """How the elements of a row lie."""
        return sizes("depth", *[f"{name}{i}" for i in range(1, self.levels + 1) for name in ("count", "pitch")])


class Strip(Form):
    """Tiles of `rows` rows of x times `columns` columns of w, one below the other.

    w is a panel: limits, factors, biases, weights.
    """

    template = "neon/int8_strip.c.j2"
    is_internal = True
    is_assembly = True
    header = INT8
    rows: int
    columns: int

    @property
    def name(self) -> str:
        return f"int8_strip_{self.variant}_{self.rows}x{self.columns}{self.suffix}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        x, w, y = Parameter("const int8_t *", "x"), Parameter("const void *", "w"), Parameter("int8_t *", "y")
        return [x, *sizes("ldx"), w, y, *sizes("ldy", "tiles"), *self.walk]

    @property
    def vectors(self) -> int:
        """Of four columns."""
        return -(-self.columns // LANES)

    @property
    def padded(self) -> int:
        """Columns with those that fill up the last vector."""
        return LANES * self.vectors

    @property
    def tile(self) -> Tile:
        """Its instructions."""
        if self.variant == "base":
            return LongTile(self.rows, self.vectors, self.is_narrow)
        if self.variant == "dotprod":
            return DotTile(self.rows, self.vectors, self.in_order)
        return MatrixTile(self.rows, self.vectors)

    @property
    def copies(self) -> int:
        """How often a column occurs in a vector of factors."""
        return TILES[self.variant].copies

    @property
    def group(self) -> int:
        """Elements of a row that are packed together."""
        return TILES[self.variant].group

    @property
    def per_turn(self) -> int:
        """Elements of a row that a turn of the loop takes."""
        return self.tile.per_turn

    @property
    def biases(self) -> int:
        """Bytes from the begin of the panel to the biases."""
        return self.ending.biases(self.vectors * self.copies)

    @property
    def clobbers(self) -> list[str]:
        """General registers that the assembly uses besides its operands."""
        used = [f"x{ROW + i}" for i in range(self.rows)] + [SPARE, WEIGHTS]
        used += [*self.tile.general] * (not self.is_short) + [LEVELS[i] for i in range(self.levels)]
        return used

    @property
    def jumps(self) -> list[str]:
        """What pointers to rows go on by when a level ends, as text."""
        total, made = "depth", []
        for i in range(1, self.levels + 1):
            made.append(f"pitch{i} - {total}")
            total = f"count{i} * pitch{i}"
        return [*made, f"{self.rows} * ldx - {total}"]

    def assembly(self) -> list[tuple[str, list[str]]]:
        """Blocks of instructions with what they do, the lines of source packed."""
        t = self.tile
        rows = [f"mov x{ROW}, %[x]", *(f"add x{ROW + i}, x{ROW + i - 1}, %[ldx]" for i in range(1, self.rows))]
        blocks = [("the rows", rows)]
        blocks.append(("one tile: biases", ["0:", f"add {WEIGHTS}, %[w], #{self.biases}", *t.start()]))
        levels = range(self.levels, 0, -1)
        opened = [line for i in levels for line in (f"mov {LEVELS[i - 1]}, %[count{i}]", f"{LABEL + i}:")]
        first = [*t.begin(), *opened] if not self.rest else [*opened, *t.begin()]
        blocks.append(("the first weights", first))
        if not self.is_short:
            turn = [*t.enter(), "1:", *t.turn(), "b.ne 1b"]
            blocks.append((f"{t.per_turn} elements of each row", turn))
        if self.rest:
            blocks.append((f"the last {self.rest}", t.rest(self.rest)))
        for i in range(1, self.levels + 1):
            surplus = t.surplus(self.rest) if self.rest and i == 1 else 0
            back = [f"sub {WEIGHTS}, {WEIGHTS}, #{surplus}"] if surplus else []
            moved = [f"add x{ROW + k}, x{ROW + k}, %[jump{i}]" for k in range(self.rows)]
            again = [f"subs {LEVELS[i - 1]}, {LEVELS[i - 1]}, #1", *back, *moved, f"b.ne {LABEL + i}b"]
            blocks.append(("the next part of each row", again))
        blocks.append(("sums to bytes", self._narrowed()))
        blocks.append(("results", self._stored()))
        moved = [f"add x{ROW + i}, x{ROW + i}, %[next]" for i in range(self.rows)]
        blocks.append(("the next tile", ["subs %[tiles], %[tiles], #1", *moved, "b.ne 0b"]))
        return [(title, packed(lines, INT8)) for title, lines in blocks if lines]

    def _narrowed(self) -> list[str]:
        t = self.tile
        sums = {r for g in t.groups for r in g.sums}
        free = [r for r in range(REGISTERS) if r not in sums]
        return [*t.reduce(self.biases), *self.ending.lines(t.groups, free)]

    def _stored(self) -> list[str]:
        """Rows of bytes, which two by two are still entangled where an accumulator has two columns of each."""
        lines: list[str] = []
        for g in self.tile.groups:
            parts = g.sums[::LANES]
            if self.copies == 2:
                ends = [(parts[i], parts[min(i + 1, len(parts) - 1)]) for i in range(0, len(parts), 2)]
                found = [[], []]  # type: list[list[int]]
                for a, b in ends:
                    lines += [f"uzp2 v{a + 1}.8h, v{a}.8h, v{b}.8h", f"uzp1 v{a}.8h, v{a}.8h, v{b}.8h"]
                    found[0].append(a)
                    found[1].append(a + 1)
                for row in range(len(g.rows)):
                    lines += self._row(found[row])
            else:
                lines += self._row(parts)
        return lines

    def _row(self, parts: Sequence[int]) -> list[str]:
        """Store a row of results, 16 in a register, and go on to the next one."""
        if self.columns == VECTOR * len(parts) and len(parts) == 1:
            return [f"st1 {{v{parts[0]}.16b}}, [%[y]], %[ldy]"]
        if self.columns in (4, 8):
            kind = "s" if self.columns == 4 else "d"
            return [f"str {kind}{parts[0]}, [%[y]]", "add %[y], %[y], %[ldy]"]
        lines = [f"mov {SPARE}, %[y]"]
        for i, r in enumerate(parts):
            lines += move_part(r, min(self.columns - VECTOR * i, VECTOR), SPARE, "st")
        return [*lines, "add %[y], %[y], %[ldy]"]


class Product(Form):
    """Lines of y, `y_line` apart: the product of rows of x, which are `ldx` apart, and all columns of w.

    tiles, last_tiles   how many of `rows` rows, then of `last_rows`, there are in a line
    spans               of a row of x, the inner first: how often it goes on, and how far
    block               lines that are done with all columns before the next ones begin
    packings, packing   how many forms of weights are given, and which one is read
    shares              what of a part is done, that goes from `begin` to `end` of PARTS: some lines, or some columns;
                        empty if there are no parts
    """

    template = "neon/int8_product.c.j2"
    rows: int
    columns: int
    last_rows: int = 0
    last_columns: int = 0
    lines: int
    x_line: int
    y_line: int
    block: int
    tiles: int
    last_tiles: int = 0
    n: int
    ldx: int
    ldy: int
    depth: int
    spans: tuple[tuple[int, int], ...] = ()
    packings: int = 1
    packing: int = 0
    shares: str = ""

    @property
    def name(self) -> str:
        m = self.lines * self.m
        k = self.depth * prod(count for count, _ in self.spans)
        return f"int8_product_{self.variant}_{m}x{self.n}x{k}_{digest(self)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        weights = [Parameter("const void *", self.w_name(i)) for i in range(self.packings)]
        part = sizes("begin", "end") if self.shares else []
        return [Parameter("const int8_t *", "x"), *weights, Parameter("int8_t *", "y"), *part]

    @property
    def m(self) -> int:
        """Rows of a line."""
        return self.tiles * self.rows + self.last_tiles * self.last_rows

    @property
    def parts(self) -> int:
        """In how many parts threads share the work."""
        return PARTS

    @property
    def panels(self) -> int:
        """Of columns, with the last one."""
        return -(-self.n // self.columns)

    def w_name(self, packing: int) -> str:
        """Of a form of weights."""
        return f"w{packing if self.packings > 1 else ''}"

    @property
    def needs(self) -> Sequence[Kernel]:
        heights = [h for h in (self.rows, self.last_rows) if h]
        whole = [self.columns] * (self.n >= self.columns)
        return [self.strip(h, w) for h in heights for w in (*whole, self.last_columns) if w]

    def strip(self, rows: int, columns: int) -> Strip:
        """The micro-kernel of a size."""
        form = {name: getattr(self, name) for name in Form.fields}
        return Strip(rows=rows, columns=columns, **form)

    @property
    def panel(self) -> int:
        """Bytes of a whole panel of weights."""
        return panel_bytes(self.strip(self.rows, self.columns), self.depth, [count for count, _ in self.spans])

    @property
    def walked(self) -> str:
        """The last arguments of a strip."""
        return ", ".join(map(str, [self.depth, *(n for span in self.spans for n in span)]))


class DotProduct(Product):
    """With the instructions of dotprod."""

    isa = "dotprod"


class MatrixProduct(Product):
    """With the instructions of i8mm."""

    isa = "i8mm"


PRODUCTS = {"base": Product, "dotprod": DotProduct, "i8mm": MatrixProduct}


def panel_bytes(strip: Strip, depth: int, counts: Sequence[int]) -> int:
    """Of a panel of weights: limits, factors, biases, and the weights of each element."""
    groups = -(-depth // strip.group) * prod(counts)
    return strip.biases + 4 * strip.padded * strip.copies + groups * strip.group * strip.padded

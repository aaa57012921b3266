"""Products of matrices of halves, in two ways that read the same packed weights: with floats of 32 bits, for any
processor, and with the multiply-accumulate of halves, eight at a time, for those that have it.

A sum of many products loses digits in 16 bits: it is moved to one in 32 bits beside the tile after at most a few dozen
of them (`halves`), as blocked summation does (N. Higham, Accuracy and Stability of Numerical Algorithms, 2002, 4.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar, NamedTuple

from codegen.neon.assembly import HALVES, packed
from codegen.neon.conv import Conv
from codegen.neon.gemm import Floats, Gemm, Strip, Turn
from codegen.neon.gemm_schedule import REGISTERS, VECTOR, WEIGHTS, Instruction
from codegen.neon.matmul import MatMul, PackPanels
from codegen.neon.tailed import other, suffix
from codegen.program import Choice, Kernel, Parameter, sizes

HALF = Instruction(mnemonic="fmla", accumulator="8h", weights="8h", lane="h", lanes=8)
LONGEST = 64  # products that are summed in 16 bits, about
MOST = LONGEST * 3 // 2
FEWEST = LONGEST // 4
UNEVEN = 24  # elements that a part may be longer or shorter to be of whole registers
LEVELS = 2  # of loops around the innermost, for which there are registers
TEMPORARIES = 4  # registers to move a sum with


class Walk(NamedTuple):
    """How the elements of a row are walked through: `run` of them lie one after the other, and each level says how
    often that is repeated and how far apart. Sums are moved to 32 bits at the end of each part of level `folds`, or
    never."""

    run: int
    levels: tuple[tuple[int, int], ...]
    folds: int


def walk(run: int, levels: Sequence[tuple[int, int]]) -> Walk | None:
    """The way in which few products are summed in 16 bits; None if there is none."""
    levels = tuple(levels)
    if run * prod(count for count, _ in levels) <= MOST:
        return Walk(run, levels, 0)
    if run > MOST:
        parts = [n for n in range(-(-run // MOST), run // FEWEST + 1) if run % n == 0]
        count = min(parts, key=lambda n: abs(run // n - LONGEST) + UNEVEN * (run // n % HALF.lanes > 0), default=0)
        made = Walk(run // count, ((count, run // count), *levels), 1) if count else None
    else:
        lengths = [run * prod(count for count, _ in levels[:i]) for i in range(len(levels))]
        made = Walk(run, levels, max(i for i, n in enumerate(lengths, 1) if n <= MOST))
    return made if made is not None and len(made.levels) <= LEVELS else None


class Halves(Floats):
    """What products of halves agree on."""

    lanes: ClassVar[int] = 8
    size: ClassVar[int] = 2
    ctype: ClassVar[str] = "half_t"
    instruction: ClassVar[Instruction] = HALF
    kind: ClassVar[str] = "_half"

    def source(self, lines: Sequence[str]) -> list[str]:
        return packed(lines, HALVES)


class HalfTurn(Halves, Turn):
    """A turn of the loop of a tile."""

    header = HALVES


class HalfEnd(Halves):
    """Stores a tile that was computed in 32 bits."""

    family = "gemm"
    template = "neon/half_end.c.j2"
    is_internal = True

    @property
    def name(self) -> str:
        return f"half_end{suffix(self.tail)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        tile = [Parameter("const float32x4_t *", "tile"), *sizes("rows", "columns", "quads")]
        return [*tile, *other(self.tail, self.ctype), Parameter(f"{self.ctype} *", "y"), *sizes("ldy")]

    @property
    def prototype(self) -> str:
        return super().prototype.replace("static ", "TILE ", 1)


class HalfStrip(Halves, Strip):
    """Tiles that are computed in 32 bits."""

    is_assembly: ClassVar[bool] = False

    @property
    def twin_end(self) -> HalfEnd:
        """What stores a tile."""
        return HalfEnd(tail=self.tail)

    @property
    def needs(self) -> Sequence[Kernel]:
        return [self.twin_end]


class Fp16Strip(HalfStrip):
    """Tiles that are computed in 16 bits.

    folds  the level at whose end sums are moved to 32 bits; 0: never
    """

    is_assembly: ClassVar[bool] = True
    kind: ClassVar[str] = "_fp16"
    header = HALVES
    folds: int = 0

    @property
    def name(self) -> str:
        return f"{super().name}{f'_folds{self.folds}' * bool(self.folds)}"

    @property
    def turn(self) -> Turn:
        return HalfTurn(rows=self.rows, vectors=self.vectors, in_order=self.in_order)

    @property
    def needs(self) -> Sequence[Kernel]:
        return [self.twin_end, *[self.turn] * (not self.is_short)]

    @property
    def sums(self) -> int:
        return self.rows * self.vectors * self.lanes if self.folds else 0

    @property
    def clobbers(self) -> list[str]:
        known = super().clobbers
        vectors = [r for r in known if r.startswith("v")]
        if not self.folds and len(vectors) < REGISTERS:
            return known
        return [*(r for r in known if r not in vectors), "VECTORS"]

    # -- assembly --------------------------------------------------------------------------------------------

    def _biases(self) -> list[str]:
        """As sums of 32 bits; those of 16 bits begin with 0."""
        if not self.folds:
            return super()._biases()
        s = self.schedule
        bias, low, high = s.free[:3]
        lines: list[str] = []
        for j in range(self.vectors):
            lines += [f"ldr q{bias}, [{WEIGHTS}], #{VECTOR}", *_widened(bias, low, high)]
            lines += [f"stp q{low}, q{high}, [%[sums], #{self._place(i, j)}]" for i in range(self.rows)]
        return [*lines, *(_zero(s.accumulator(i, j)) for i in range(self.rows) for j in range(self.vectors))]

    def _moved(self, level: int) -> list[str]:
        """Sums of 16 bits are added to those of 32 bits."""
        if level != self.folds:
            return []
        s = self.schedule
        spare = [*range(s.rows * s.depth), *range(s.registers, REGISTERS)]
        lines: list[str] = []
        for n, (i, j) in enumerate((i, j) for i in range(self.rows) for j in range(self.vectors)):
            own, place = s.accumulator(i, j), self._place(i, j)
            if len(spare) < TEMPORARIES:
                lines += self._one_by_one(own, place, spare)
                continue
            first = n % (len(spare) // TEMPORARIES) * TEMPORARIES
            a, b, low, high = spare[first : first + TEMPORARIES]
            lines += [f"ldp q{a}, q{b}, [%[sums], #{place}]", *_widened(own, low, high), _zero(own)]
            lines += [f"fadd v{a}.4s, v{a}.4s, v{low}.4s", f"fadd v{b}.4s, v{b}.4s, v{high}.4s"]
            lines.append(f"stp q{a}, q{b}, [%[sums], #{place}]")
        return lines

    @staticmethod
    def _one_by_one(own: int, place: int, spare: Sequence[int]) -> list[str]:
        a, b = spare[:2]
        lines: list[str] = []
        for part, (widen, at) in enumerate(
            ((f"fcvtl v{a}.4s, v{own}.4h", place), (f"fcvtl2 v{a}.4s, v{own}.8h", place + VECTOR))
        ):
            lines += [widen, f"ldr q{b}, [%[sums], #{at}]", f"fadd v{b}.4s, v{b}.4s, v{a}.4s"]
            lines += [f"str q{b}, [%[sums], #{at}]", *[_zero(own)] * part]
        return lines

    def _complete(self, row: int) -> list[str]:
        """The sums of a row in 32 bits, rounded."""
        if not self.folds:
            return []
        s = self.schedule
        low, high = s.free[-2:]
        lines: list[str] = []
        for j in range(self.vectors):
            own = s.accumulator(row, j)
            lines += [f"ldp q{low}, q{high}, [%[sums], #{self._place(row, j)}]"]
            lines += [f"fcvtn v{own}.4h, v{low}.4s", f"fcvtn2 v{own}.8h, v{high}.4s"]
        return lines

    def _place(self, row: int, vector: int) -> int:
        return 2 * VECTOR * (row * self.vectors + vector)


def _widened(register: int, low: int, high: int) -> list[str]:
    return [f"fcvtl v{low}.4s, v{register}.4h", f"fcvtl2 v{high}.4s, v{register}.8h"]


def _zero(register: int) -> str:
    return f"movi v{register}.4s, #0"


class Halved(Choice):
    """One of two kernels, which is called as the second one: several of those stand beside the same first one."""

    @property
    def name(self) -> str:
        return f"{self.variants[-1].name}_or_wider"


class HalfGemm(Halves, Gemm):
    """A product in 32 bits. `blocks` are for those in 16 bits."""

    @property
    def parameters(self) -> Sequence[Parameter]:
        return [*super().parameters, *sizes("blocks")]

    @property
    def unused(self) -> Sequence[str]:
        return ("blocks",)

    @property
    def per_turn(self) -> int:
        """Elements of a row that a turn of the loop takes."""
        return HalfTurn(rows=self.rows, vectors=self.vectors, in_order=self.in_order).schedule.per_turn

    def strip(self, rows: int, columns: int) -> Strip:
        return HalfStrip(rows=rows, columns=columns, tail=self.tail)


class Fp16Gemm(HalfGemm):
    """A product in 16 bits.

    folds  whether the elements of a row are cut into `blocks`, of which each is summed in 16 bits
    """

    isa = "fp16"
    kind: ClassVar[str] = "_fp16"
    folds: bool = False

    @property
    def name(self) -> str:
        return f"{super().name}{'_folds' * self.folds}"

    @property
    def unused(self) -> Sequence[str]:
        return () if self.folds else super().unused

    @property
    def walked(self) -> str:
        return "k / blocks, blocks, k / blocks" if self.folds else "k"

    def strip(self, rows: int, columns: int) -> Strip:
        return Fp16Strip(
            rows=rows,
            columns=columns,
            rest=self.rest,
            is_short=self.is_short,
            in_order=self.in_order,
            levels=int(self.folds),
            folds=int(self.folds),
            tail=self.tail,
        )


def blocks(depth: int) -> int:
    """Into how many a row is cut that lies in one run."""
    way = walk(depth, ())
    return way.levels[0][0] if way is not None and way.levels else 1


class HalfPackPanels(Halves, PackPanels):
    """A matrix of halves as products read it."""


class HalfMatMul(Halves, MatMul):
    """Products in 32 bits."""

    @property
    def numbers(self) -> Sequence[int]:
        return [*super().numbers, blocks(self.k)]

    @property
    def pack(self) -> Kernel:
        return HalfPackPanels()


class Fp16MatMul(HalfMatMul):
    """Products in 16 bits."""

    isa = "fp16"
    kind: ClassVar[str] = "_fp16"


class HalfConv(Halves, Conv):
    """A convolution in 32 bits."""

    def strip(self, rows: int, columns: int) -> Strip:
        return HalfStrip(rows=rows, columns=columns, levels=len(self.levels), tail=self.tail)


class Fp16Conv(HalfConv):
    """A convolution in 16 bits, for which there is a way to walk."""

    isa = "fp16"
    kind: ClassVar[str] = "_fp16"

    @property
    def walk(self) -> Walk:
        """Below a filter."""
        found = walk(super().run, super().levels)
        assert found is not None
        return found

    @property
    def run(self) -> int:
        return self.walk.run

    @property
    def levels(self) -> list[tuple[int, int]]:
        return list(self.walk.levels)

    def strip(self, rows: int, columns: int) -> Strip:
        per_turn = HalfTurn(rows=self.rows, vectors=self.vectors, in_order=self.in_order).schedule.per_turn
        return Fp16Strip(
            rows=rows,
            columns=columns,
            rest=self.run % per_turn,
            is_short=self.run < per_turn,
            in_order=self.in_order,
            levels=len(self.levels),
            folds=self.walk.folds,
            tail=self.tail,
        )

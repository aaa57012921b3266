"""Convolutions with 3 x 3 filters by fewer multiplications: F(2x2, 3x3) and F(4x4, 3x3) (A. Lavin, S. Gray, Fast
Algorithms for Convolutional Neural Networks, 2016).

Each tile of `out` x `out` pixels comes from a patch of size x size, size = out + 2. Patches are transformed
(`Input`); for each of their size x size places the patches of all tiles are a matrix [tiles, channels], to be
multiplied by a matrix [channels, filters]; the products are transformed back (`Output`). The point 1 is among those of
the transforms, so a bias is added to the products of place (1, 1) alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice, pairwise

import numpy as np

from codegen.neon.gemm import SIZE, WIDTH, Gemm, packed
from codegen.neon.gemm_tail import Constant
from codegen.neon.tailed import Tailed, other, suffix
from codegen.neon.winograd_in_order import COLUMNS, KEPT, NUMBERS, PATCHES, PRODUCTS, ROWS, loop, tail_of
from codegen.program import Kernel, Parameter, sizes
from compiler.tensor import Array

# Of filters, patches and products, by pixels of a tile's side.
G = {
    2: np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    4: np.array(
        [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]],
    )
    / 24,
}
B = {
    2: np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    4: np.array(
        [
            *([4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]),
            *([0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]),
        ]
    ),
}
A = {
    2: np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
    4: np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
}
# Lines of C: a result from places p0, p1, ..., and before them what several of them share.
INPUT = {
    2: ["*t0 = vsubq_f32(p0, p2);", "*t1 = vaddq_f32(p1, p2);", "*t2 = vsubq_f32(p2, p1);", "*t3 = vsubq_f32(p1, p3);"],
    4: [
        "const float32x4_t even4 = vfmsq_n_f32(p4, p2, 4.0f), odd4 = vfmsq_n_f32(p3, p1, 4.0f);",
        "const float32x4_t even1 = vsubq_f32(p4, p2), odd1 = vsubq_f32(p3, p1);",
        "*t0 = vfmaq_n_f32(vfmsq_n_f32(p4, p2, 5.0f), p0, 4.0f);",
        "*t1 = vaddq_f32(even4, odd4);",
        "*t2 = vsubq_f32(even4, odd4);",
        "*t3 = vfmaq_n_f32(even1, odd1, 2.0f);",
        "*t4 = vfmsq_n_f32(even1, odd1, 2.0f);",
        "*t5 = vfmaq_n_f32(vfmsq_n_f32(p5, p3, 5.0f), p1, 4.0f);",
    ],
}
OUTPUT = {
    2: [
        "*t0 = vaddq_f32(p0, vaddq_f32(p1, p2));",
        "*t1 = vsubq_f32(vsubq_f32(p1, p2), p3);",
    ],
    4: [
        "const float32x4_t sum1 = vaddq_f32(p1, p2), sum2 = vaddq_f32(p3, p4);",
        "const float32x4_t difference1 = vsubq_f32(p1, p2), difference2 = vsubq_f32(p3, p4);",
        "*t0 = vaddq_f32(p0, vaddq_f32(sum1, sum2));",
        "*t1 = vfmaq_n_f32(difference1, difference2, 2.0f);",
        "*t2 = vfmaq_n_f32(sum1, sum2, 4.0f);",
        "*t3 = vaddq_f32(vfmaq_n_f32(difference1, difference2, 8.0f), p5);",
    ],
}


class Line(Kernel):
    """The transform of a line of a patch, or of products; elsewhere than on Arm alone if it `is_spare`."""

    family = "winograd"
    template = "neon/winograd_line.c.j2"
    is_internal = True
    out: int
    is_input: bool
    is_spare: bool = False

    @property
    def name(self) -> str:
        return f"winograd{self.out}_{'input' if self.is_input else 'output'}_line"

    @property
    def size(self) -> int:
        """Of a patch."""
        return self.out + 2

    @property
    def results(self) -> int:
        """How many come out."""
        return self.size if self.is_input else self.out

    @property
    def lines(self) -> Sequence[str]:
        """Of its body."""
        return (INPUT if self.is_input else OUTPUT)[self.out]

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter("float32x4_t", f"p{i}") for i in range(self.size)]
        return [*given, *(Parameter("float32x4_t *", f"t{i}") for i in range(self.results))]

    @property
    def prototype(self) -> str:
        """It is a part of loops."""
        attributes = "always_inline, unused" if self.is_spare else "always_inline"
        return super().prototype.replace("static void", f"static inline __attribute__(({attributes})) void")


class Assembly:
    """What computes all channels of a tile: what stands before the loop, a turn of it, and the numbers of the tail that
    come in general registers. `pitches` are bytes from a row to the next, by the operand that points to the first."""

    numbers = NUMBERS

    def __init__(
        self, pitches: dict[str, tuple[int, int]], line: int, turn: list[str], constants: Sequence[Constant] = ()
    ) -> None:
        before = [f"ldr q{KEPT}, [%[numbers]]", *(c.line for c in constants)]
        rows = iter(ROWS)
        for base, (count, _) in pitches.items():
            used = list(islice(rows, count))
            before += [f"mov {used[0]}, %[{base}]"]
            before += [f"add {b}, {a}, %[{base}_pitch]" for a, b in pairwise(used)]
        size = next(iter(pitches.values()))[0]
        before += [f"mov {COLUMNS[0]}, #0", f"mov {COLUMNS[1]}, %[line]"]
        before += [f"add {b}, {a}, %[line]" for a, b in pairwise(COLUMNS[1:size])]
        body = ["1:", *turn, "subs %[count], %[count], #1", "b.ne 1b"]
        self.blocks = [("rows and columns", packed(before)), ("four channels at a time", packed(body))]
        self.pointers = list(pitches)
        self.operands = {f"{base}_pitch": pitch for base, (_, pitch) in pitches.items()} | {"line": line}
        self.constants = [c for c in constants if c.operand]
        text = "\n".join([*before, *turn])
        general = [r for r in (*COLUMNS, *ROWS) if re.search(rf"\b{r}\b", text)]
        vectors = sorted({int(n) for n in re.findall(r"\b[vq](\d+)\b", text)})
        self.clobbers = [*general, *(f"v{r}" for r in vectors)]


class Input(Kernel):
    """The patches of `lines` lines of tiles, transformed: [tiles, size * size, channels]."""

    family = "winograd"
    template = "neon/winograd_input.c.j2"
    out: int
    tiles: int
    width: int
    channels: int
    in_order: bool = False

    @property
    def name(self) -> str:
        return f"winograd{self.out}_input_{self.channels}_at_{self.tiles}_of_{self.width}{'_in_order' * self.in_order}"

    @property
    def assembly(self) -> Assembly | None:
        """For cores that issue in order."""
        size, line = self.out + 2, SIZE * self.channels
        if not self.in_order:
            return None
        pitches = {"p": (size, line * self.width), "v": (size, line * size)}
        return Assembly(pitches, line, loop(PATCHES[self.out], size))

    @property
    def parameters(self) -> Sequence[Parameter]:
        return [Parameter("const float *", "x"), Parameter("float *", "v"), *sizes("lines")]

    @property
    def line(self) -> Line:
        """The transform of one line."""
        return Line(out=self.out, is_input=True, is_spare=self.in_order)

    @property
    def needs(self) -> Sequence[Kernel]:
        return [self.line]


class Output(Tailed):
    """Pixels from the products of tiles [tiles, size * size, filters]; the last tiles of a line, and of all lines, may
    have fewer pixels than others."""

    family = "winograd"
    template = "neon/winograd_output.c.j2"
    out: int
    tiles: int
    width: int
    filters: int
    is_ragged: bool = False
    in_order: bool = False

    @property
    def assembly(self) -> Assembly | None:
        """For cores that issue in order, if all tiles have all pixels."""
        tail = tail_of(self.tail)
        if not self.in_order or self.is_ragged or tail is None:
            return None
        size, line = self.out + 2, SIZE * self.filters
        pitches = {"z": (size, line * size), "p": (self.out, line * self.width)}
        if tail.has_other:
            pitches["q"] = pitches["p"]
        return Assembly(pitches, line, loop(PRODUCTS[self.out], size, self.tail), tail.constants)

    @property
    def name(self) -> str:
        ragged = "_ragged" * self.is_ragged + "_in_order" * (self.assembly is not None)
        return f"winograd{self.out}_output_{self.filters}_at_{self.width}{ragged}{suffix(self.tail)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter("const float *", "z"), *other(self.tail), Parameter("float *", "y")]
        return [*pointers, *sizes("lines", *["height"] * self.is_ragged)]

    @property
    def line(self) -> Line:
        """The transform of one line."""
        return Line(out=self.out, is_input=False, is_spare=self.in_order)

    @property
    def needs(self) -> Sequence[Kernel]:
        return [self.line]


class Winograd(Tailed):
    """y = tail(conv(x, w) + b) for 3 x 3 filters, stride 1: `lines` lines of `tiles` tiles, `block` of them at a time;
    of these lines those from `begin`, a multiple of the block, to before `end`, another one or the end of all.

    gemm, counts             of the products of a block: the kernel, and its numbers of tiles of rows
    last_gemm, last_counts   of those of the last block, if that has fewer lines
    """

    family = "winograd"
    template = "neon/winograd.c.j2"
    out: int
    images: int
    height: int
    width: int
    channels: int
    filters: int
    out_height: int
    out_width: int
    block: int
    gemm: Gemm
    counts: tuple[int, ...]
    last_gemm: Gemm | None = None
    last_counts: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        images = f"_n{self.images}" * (self.images > 1)
        size = f"{self.height}x{self.width}_to_{self.filters}_at_{self.out_height}x{self.out_width}"
        return f"conv_winograd{self.out}_{self.channels}_at_{size}{images}{suffix(self.tail)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter("const float *", "x"), Parameter("const float *", "w"), *other(self.tail)]
        return [*pointers, *(Parameter("float *", name) for name in ("y", "v", "z")), *sizes("begin", "end")]

    @property
    def places(self) -> int:
        """Of a patch."""
        return (self.out + 2) ** 2

    @property
    def lines(self) -> int:
        """Of tiles."""
        return -(-self.out_height // self.out)

    @property
    def tiles(self) -> int:
        """Of a line."""
        return -(-self.out_width // self.out)

    @property
    def panel(self) -> int:
        """Weights of a place."""
        return (self.channels + 1) * -(-self.filters // WIDTH) * WIDTH

    @property
    def input(self) -> Input:
        """What transforms patches."""
        return Input(
            out=self.out, tiles=self.tiles, width=self.width, channels=self.channels, in_order=self.gemm.in_order
        )

    @property
    def output(self) -> Output:
        """What transforms products."""
        ragged = bool(self.out_height % self.out or self.out_width % self.out)
        return Output(
            out=self.out,
            tiles=self.tiles,
            width=self.out_width,
            filters=self.filters,
            is_ragged=ragged,
            in_order=self.gemm.in_order,
            tail=self.tail,
        )

    @property
    def needs(self) -> Sequence[Kernel]:
        return [k for k in (self.input, self.gemm, self.last_gemm, self.output) if k is not None]

    def scratch(self, channels: int) -> int:
        """Bytes of the patches or products of a block."""
        return 4 * self.block * self.tiles * self.places * channels


def transformed(w: Array, out: int) -> Array:
    """Filters [M, C, 3, 3] as matrices [places, C, M], computed in float64."""
    m, c = w.shape[:2]
    filters = w.astype(np.float64).transpose(2, 3, 1, 0).reshape(9, c * m)
    return np.asarray(np.kron(G[out], G[out]) @ filters).reshape(-1, c, m)


def accuracy(w: Array, out: int, tiles: int = 8) -> float:
    """The signal-to-noise ratio in dB of float32 results for patches of random numbers, against float64."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((tiles, out + 2, out + 2, w.shape[1])).astype(np.float32)
    u = transformed(w, out)
    side = out + 2

    def results(kind: type[np.floating]) -> Array:
        b, a = B[out].astype(kind), A[out].astype(kind)
        v = np.einsum("ik,tklc,jl->ijtc", b, x.astype(kind), b, optimize=True).reshape(side**2, tiles, -1)
        z = np.matmul(v, u.astype(kind)).reshape(side, side, tiles, -1)
        return np.einsum("ik,kltm,jl->tijm", a, z, a, optimize=True)

    want = results(np.float64)
    noise = float(np.square(results(np.float32) - want).sum())
    signal = float(np.square(want).sum())
    return 10 * float(np.log10(signal / noise)) if noise and signal else float("inf")

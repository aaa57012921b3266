"""Products of matrices on 8 x 8 matrices of simdgroups.

A threadgroup computes a tile of the result, each of its simdgroups a block of 32 x 32 sums of it, which are 4 x 4
matrices in registers. The depth is walked in steps: what the threadgroup needs of both operands for a step is copied
into its memory once, then each simdgroup loads 4 + 4 matrices for 16 products of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from codegen.metal import launch
from codegen.metal.gemm_count import Count, inner_loop
from codegen.metal.kernel import SIMD, Grid, Numbers, Tile
from codegen.metal.tailed import Tailed
from codegen.program import Parameter, sizes
from compiler.tensor import Array

EDGE = 8  # rows and columns of a matrix of a simdgroup
BLOCK = 32  # rows and columns of a simdgroup's sums
PAD = 16  # bytes behind each row of a tile, so that rows begin in different banks
WIDE = 4  # elements that are copied at once
UNEVEN = {WIDE: "", 2: "_pairs", 1: "_odd"}  # the part of a name, if rows are no multiple of that
TILES = tuple(  # of a threadgroup, a simdgroup for each block
    launch.Tile(rows, columns, 32, rows * columns // BLOCK**2, rows // BLOCK)
    for rows, columns in ((64, 64), (32, 64), (64, 32), (32, 32))
)


class Tiled(Tailed):
    """A product in tiles of `rows` x `columns`, the depth in steps of `step`; `vector` neighbours along the depth of
    the first operand are copied at once: 4, 2 or 1. For GPUs without matrices of simdgroups (not `has_matrices`) a lane
    sums up 8 x 4 elements of its simdgroup's block."""

    family = "gemm"
    positions: ClassVar[Sequence[str]] = ("group", "index", "lane", "simdgroup")
    step: ClassVar[int] = 32
    rows: int
    columns: int
    vector: int = WIDE
    has_matrices: bool = True

    @property
    def cut(self) -> str:
        """The part of a name that tells of the tile."""
        return f"{self.rows}x{self.columns}{'_plain' * (not self.has_matrices)}{UNEVEN[self.vector]}"

    @property
    def simdgroups(self) -> int:
        """Of a threadgroup."""
        return self.rows * self.columns // BLOCK**2

    @property
    def count(self) -> int:
        """Threads of a threadgroup."""
        return SIMD * self.simdgroups

    @property
    def threads(self) -> Grid:
        return (self.count, 1, 1)

    @property
    def pad(self) -> int:
        """Elements behind each row of a tile."""
        return PAD // (2 if self.ctype == "half_t" else 4)

    @property
    def x_pitch(self) -> int:
        """Elements from a row of the first operand's tile to the next."""
        return self.step + self.pad

    @property
    def w_pitch(self) -> int:
        """The same of the second one's."""
        return self.columns + self.pad

    @property
    def w_rows(self) -> int:
        """Rows of the second operand's tile."""
        return self.step

    @property
    def x_copies(self) -> int:
        """Copies of a thread for the first operand's tile."""
        return self.rows * self.step // self.vector // self.count

    @property
    def x_apart(self) -> int:
        """Rows from one copy to the next."""
        return self.count * self.vector // self.step

    @property
    def w_copies(self) -> int:
        """The same for the second one's."""
        return 0 if self.is_direct else self.step * self.columns // WIDE // self.count

    @property
    def is_direct(self) -> bool:
        """Whether matrices of the second operand are loaded from where they lie, as no two simdgroups load the same."""
        return self.rows == BLOCK and self.has_matrices

    @property
    def tiles(self) -> Sequence[Tile]:
        x = Tile(self.stored, "x_tile", self.rows * self.x_pitch)
        w = Tile(self.stored, "w_tile", self.w_rows * self.w_pitch)
        strips = Tile("float", "strips", self.simdgroups * EDGE * BLOCK)
        return [x, *[w] * (not self.is_direct), *[strips] * self.has_matrices]

    @property
    def is_transposed(self) -> bool:
        """Whether the rows of the second operand's tile are columns of the product."""
        return False

    def taken(self, vector: int) -> str:
        """The type of what is copied at once."""
        return self.stored if vector == 1 else f"{self.stored}{vector}"

    def inner_loop(self) -> Count:
        """What a turn of the loop over the depth spends its operations on."""
        return inner_loop(self.render())


class Gemm(Tiled):
    """y [m, n] = tail(x [m, k] w [k, n] + b [n]), with w in panels as `packed_panels` lays them and b floats.

    is_gated  w and b have 2 n columns: the tail makes a result of two neighbours, its operands 0 and 1
    """

    template = "metal/gemm.metal.j2"
    has_bias: bool = False
    is_gated: bool = False

    @property
    def name(self) -> str:
        return f"gemm_{self.cut}{'_gated' * self.is_gated}{'_bias' * self.has_bias}{self.kind}"

    @property
    def has_other(self) -> bool:
        return super().has_other and not self.is_gated

    @property
    def second(self) -> str:
        return "other" if self.is_gated else super().second

    @property
    def parameters(self) -> Sequence[Parameter]:
        bias = [Parameter("const float *", "b")] * self.has_bias
        given = [Parameter(f"const {self.ctype} *", name) for name in ("x", "w")]
        return [*given, *bias, *self.other, self.result, *sizes("m", "n", "k"), *self.pitch]

    def grid(self, numbers: Numbers) -> Grid:
        columns = int(numbers["n"]) * (2 if self.is_gated else 1)
        return (-(-columns // self.columns), -(-int(numbers["m"]) // self.rows), 1)


def packed_panels(matrix: Array, kernel: Tiled) -> Array:
    """[..., k, n] as tiles read it: panels of columns, in each the rows one after the other, both padded with zeros to
    whole tiles: [..., panels, k, columns]."""
    *lead, k, n = matrix.shape
    panels, depth = -(-n // kernel.columns), -(-k // kernel.step) * kernel.step
    padded = np.zeros((*lead, depth, panels * kernel.columns), matrix.dtype)
    padded[..., :k, :n] = matrix
    return np.ascontiguousarray(np.moveaxis(padded.reshape(*lead, depth, panels, kernel.columns), -2, -3))

"""Products of few rows with a matrix of weights, which may be stored in 8 or 4 bits: reading the weights is all that
takes time, so every lane of a simdgroup reads a part of a column and the parts are added at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from codegen.metal.kernel import SIMD, Grid, Numbers
from codegen.metal.tailed import Tailed
from codegen.program import Parameter, sizes
from compiler.tensor import Array

MOST_ROWS = 4  # from 5 on the tiles of a product are faster
COLUMNS = 4  # of a simdgroup, which share what is read of x
SIMDGROUPS = 4  # of a threadgroup


class Gemv(Tailed):
    """y [rows, n] = tail(x [rows, k] w [k, n] + b [n]), b floats. w lies column by column, as `packed_columns` lays it.

    w_type     of the weights: that of elements, int8_t, uint8_t, or uint32_t for words of 8 weights of 4 bits
    block      weights of a column that share a scale, a multiple of what a lane reads at once; 0: all
    has_zeros  what stands for 0 is another number for each scale
    vector     neighbours of x that are loaded at once: 4, or 1
    """

    family = "gemm"
    template = "metal/gemv.metal.j2"
    positions: ClassVar[Sequence[str]] = ("group", "lane", "simdgroup")
    columns: ClassVar[int] = COLUMNS
    simdgroups: ClassVar[int] = SIMDGROUPS
    rows: int
    w_type: str = "float"
    block: int = 0
    has_zeros: bool = False
    vector: int = 4
    has_bias: bool = False

    @property
    def name(self) -> str:
        kind = {self.ctype: "", "int8_t": "_int8", "uint8_t": "_uint8", "uint32_t": "_uint4"}[self.w_type]
        if self.is_quantized:
            kind += f"_blocks_{self.block}" * bool(self.block) + "_zeros" * self.has_zeros
        odd = "_odd" * (self.vector == 1)
        return f"gemv_{self.rows}{kind}{odd}{'_bias' * self.has_bias}{self.kind}"

    @property
    def is_quantized(self) -> bool:
        """Whether weights have scales."""
        return self.w_type != self.ctype

    @property
    def take(self) -> int:
        """Weights that a lane reads at once."""
        return take_of(self.w_type)

    @property
    def parameters(self) -> Sequence[Parameter]:
        floats = ["scales"] * self.is_quantized + ["zeros"] * self.has_zeros + ["b"] * self.has_bias
        given = [Parameter(f"const {self.ctype} *", "x"), Parameter(f"const {self.w_type} *", "w")]
        given += [Parameter("const float *", name) for name in floats]
        return [*given, *self.other, self.result, *sizes("n", "k"), *self.pitch]

    @property
    def threads(self) -> Grid:
        return (SIMD * SIMDGROUPS, 1, 1)

    def grid(self, numbers: Numbers) -> Grid:
        return (-(-int(numbers["n"]) // (COLUMNS * SIMDGROUPS)), 1, 1)


def take_of(w_type: str) -> int:
    """Weights that a lane reads at once."""
    return 8 if w_type == "uint32_t" else 4


def packed_columns(matrix: Array, take: int) -> Array:
    """[k, n] as the kernel reads it: column by column, each padded with zeros to a whole number of reads, and columns
    with zeros to whole simdgroups."""
    k, n = matrix.shape
    padded = np.zeros((-(-n // COLUMNS) * COLUMNS, -(-k // take) * take), matrix.dtype)
    padded[:n, :k] = matrix.T
    return padded


def words(columns: Array) -> Array:
    """Numbers from 0 to 15 as words of 8, the first in the lowest bits."""
    parts = columns.astype(np.uint32).reshape(columns.shape[0], -1, 8)
    return np.bitwise_or.reduce(parts << (4 * np.arange(8, dtype=np.uint32)), axis=-1).astype(np.uint32)

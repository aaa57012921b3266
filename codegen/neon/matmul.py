"""Products of matrices that are both computed: packed at run time, or one element at a time for any type."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.gemm import Gemm
from codegen.neon.plain import Plain
from codegen.neon.tailed import Tailed, digest, other, suffix
from codegen.program import Kernel, Parameter

Ints = tuple[int, ...]


class PackPanels(Kernel):
    """A matrix [k, n] with its biases [n], or zeros if these are NULL, as products read them: panels of `width`
    columns, the last one of as many vectors as it takes. Elements are `row` and `column` apart."""

    family = "gemm"
    template = "neon/pack_panels.c.j2"

    @property
    def name(self) -> str:
        return "pack_panels"

    @property
    def parameters(self) -> Sequence[Parameter]:
        names = ("k", "n", "row", "column", "width")
        pointers = [Parameter("const float *", "w"), Parameter("const float *", "b"), Parameter("float *", "to")]
        return [*pointers, *(Parameter("size_t", name) for name in names)]


class MatMul(Tailed):
    """z [*batch, m, n] = tail(x [*, m, k] y [*, k, n] + b [n]).

    x_steps, y_steps   elements from one matrix to the next along each axis of the batch, 0 where one is repeated
    row, column        elements from one element of y to the next
    gemm, counts       the kernel of a product, and its numbers of tiles
    """

    family = "gemm"
    template = "neon/matmul.c.j2"
    batch: Ints
    x_steps: Ints
    y_steps: Ints
    m: int
    n: int
    k: int
    row: int
    column: int
    gemm: Gemm
    counts: Ints
    block: int
    has_bias: bool = False

    @property
    def name(self) -> str:
        shape = "x".join(map(str, (*self.batch, self.m, self.k, self.n)))
        transposed = "_transposed" * (self.column != 1)
        return f"matmul_{shape}{transposed}{suffix(self.tail)}_{digest(self.values())}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter("const float *", name) for name in ("x", "y", *["b"] * self.has_bias)]
        return [*pointers, *other(self.tail), Parameter("float *", "z"), Parameter("float *", "panels")]

    @property
    def needs(self) -> Sequence[Kernel]:
        return [PackPanels(), self.gemm]

    @property
    def packs_at(self) -> int:
        """The axis of the batch from which on matrices of y are the same."""
        changing = [axis for axis, step in enumerate(self.y_steps) if step]
        return changing[-1] + 1 if changing else 0


class PlainMatMul(Plain):
    """z [*batch, m, n] = x y + b in any type, one element at a time, with sums of the type `wide`; `x` and `y` are
    strides in elements for each axis of the batch, then for rows and columns."""

    template = "neon/plain_matmul.c.j2"
    ctype: str
    wide: str
    batch: Ints
    m: int
    n: int
    k: int
    x: Ints
    y: Ints
    has_bias: bool = False

    @property
    def name(self) -> str:
        return self.named("plain_matmul", *self.batch, self.m, self.k, self.n)

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter(f"const {self.ctype} *", name) for name in ("x", "y", *["b"] * self.has_bias)]
        return [*pointers, Parameter(f"{self.ctype} *", "z")]

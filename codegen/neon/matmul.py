"""Products of matrices that are both computed: packed at run time, or one element at a time for any type."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from codegen.neon.gemm import Floats, Gemm
from codegen.neon.plain import Plain
from codegen.neon.tailed import digest, other, suffix
from codegen.program import Kernel, Parameter, sizes

Ints = tuple[int, ...]


class PackPanels(Floats):
    """A matrix [k, n] with its biases [n], or zeros if these are NULL, as products read them: panels of `width`
    columns, the last one of as many vectors as it takes. Elements are `row` and `column` apart."""

    family = "gemm"
    template = "neon/pack_panels.c.j2"

    @property
    def name(self) -> str:
        return f"pack{self.kind}_panels"

    @property
    def parameters(self) -> Sequence[Parameter]:
        names = ("k", "n", "row", "column", "width")
        given = f"const {self.ctype} *"
        pointers = [Parameter(given, "w"), Parameter(given, "b"), Parameter(f"{self.ctype} *", "to")]
        return [*pointers, *(Parameter("size_t", name) for name in names)]


class MatMul(Floats):
    """z [*batch, m, n] = tail(x [*, m, k] y [*, k, n] + b [n]).

    x_steps, y_steps   elements from one matrix to the next along each axis of the batch, 0 where one is repeated
    row, column        elements from one element of y to the next
    gemm, counts       the kernel of a product, and its numbers of tiles

    Of more products than one, those from `begin` to `end`.
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
        return f"matmul{self.kind}_{shape}{transposed}{suffix(self.tail)}_{digest(self.values())}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter(f"const {self.ctype} *", name) for name in ("x", "y", *["b"] * self.has_bias)]
        written = [Parameter(f"{self.ctype} *", name) for name in ("z", "panels")]
        part = sizes("begin", "end") if self.items > 1 else []
        return [*pointers, *other(self.tail, self.ctype), *written, *part]

    @property
    def needs(self) -> Sequence[Kernel]:
        return [self.pack, self.gemm]

    @property
    def pack(self) -> Kernel:
        """What packs the second operand."""
        return PackPanels()

    @property
    def numbers(self) -> Sequence[int]:
        """The last arguments of a product."""
        return [*self.counts, self.n, self.k, self.block]

    @property
    def items(self) -> int:
        """Products."""
        return prod(self.batch)

    @property
    def lasts(self) -> int:
        """How many products, one after the other, have the same matrix of y."""
        changing = [axis for axis, step in enumerate(self.y_steps) if step]
        return prod(self.batch[changing[-1] + 1 if changing else 0 :])

    @property
    def places(self) -> list[tuple[str, str]]:
        """Names of the indices that steps are multiplied by, and what they are, for product number `item`."""
        used = [axis for axis, steps in enumerate(zip(self.x_steps, self.y_steps, strict=True)) if any(steps)]
        found = []
        for axis in used:
            inner, outer = prod(self.batch[axis + 1 :]), prod(self.batch[:axis])
            text = f"item / {inner}" if inner > 1 else "item"
            found.append((f"i{axis}", f"{text} % {self.batch[axis]}" if outer > 1 else text))
        return found


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

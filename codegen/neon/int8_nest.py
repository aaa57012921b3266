"""Loops for all that has no kernel of its own: each result is a function of some elements, or of a sum over them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from codegen.neon.tailed import digest
from codegen.program import Kernel, Parameter, sizes
from compiler.record import Record

Ints = tuple[int, ...]
NAMES = "abcdefgh"


class Operand(Record):
    """An array: the distances between its neighbours along the axes of the result, then along those that are summed
    over, in elements. Of a table no element is read, but functions take the array, which is named xa, xb, ..."""

    ctype: str
    strides: Ints
    inner: Ints = ()
    is_table: bool = False

    @property
    def is_inner(self) -> bool:
        """Whether it is another element for each term."""
        return any(self.inner)


class Nest(Kernel):
    """y[i, j, ...] = result, of elements named a, b, ... and of `sum`, which is `start` and then `update` for each
    element along the axes `inner`. If it `is_shared`, of the first axis from `begin` to `end`.

    word   what it does, for its name
    """

    family = "int8"
    template = "neon/int8_nest.c.j2"
    word: str
    sizes: Ints
    operands: tuple[Operand, ...]
    result: str
    ctype: str
    inner: Ints = ()
    sum_type: str = "int32_t"
    start: str = ""
    update: str = ""
    is_shared: bool = False

    @property
    def name(self) -> str:
        return f"{self.word}_{digest(self)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter(f"const {o.ctype} *", f"x{n}") for n, o in zip(NAMES, self.operands, strict=False)]
        part = sizes("begin", "end") if self.is_shared else []
        return [*given, Parameter(f"{self.ctype} *", "y"), *part]

    @property
    def row(self) -> int:
        """Results of one step along the first axis."""
        return prod(self.sizes[1:])

    @property
    def named(self) -> list[tuple[str, Operand]]:
        """The operands of which elements are read, with the names of these."""
        return [(n, o) for n, o in zip(NAMES, self.operands, strict=False) if not o.is_table]

"""Loops for all that has no kernel of its own: each result is a function of some elements, or of a sum over them."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.tailed import digest
from codegen.program import Kernel, Parameter
from compiler.record import Record

Ints = tuple[int, ...]
NAMES = "abcdefgh"


class Operand(Record):
    """An array: the distances between its neighbours along the axes of the result, then along those that are summed
    over, in elements."""

    ctype: str
    strides: Ints
    inner: Ints = ()

    @property
    def is_inner(self) -> bool:
        """Whether it is another element for each term."""
        return any(self.inner)


class Nest(Kernel):
    """y[i, j, ...] = result, of elements named a, b, ... and of `sum`, which is `start` and then `update` for each
    element along the axes `inner`.

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

    @property
    def name(self) -> str:
        return f"{self.word}_{digest(self)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter(f"const {o.ctype} *", f"x{n}") for n, o in zip(NAMES, self.operands, strict=False)]
        return [*given, Parameter(f"{self.ctype} *", "y")]

    @property
    def named(self) -> list[tuple[str, Operand]]:
        """The operands with the names of their elements."""
        return list(zip(NAMES, self.operands, strict=False))

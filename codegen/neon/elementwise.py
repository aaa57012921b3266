"""Loops over elements, with operands broadcast: one function for each expression and pattern of broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from codegen.expression import Body, Expression, Operand, functions, operands, write
from codegen.neon.vectors import EACH, LANES, LONG, TYPES, VECTOR, is_vector, loaded, stored, unrounded
from codegen.program import Kernel, Parameter
from codegen.scalar import SCALAR

SHOWN = 4  # functions in a name
UNROLLED = 4  # vectors at a time, if no function is long
LIGHT = 12  # functions up to which that is done


class Elementwise(Kernel):
    """y[i, j, ...] = expression(x0[...], x1[...], ...).

    expression  of operands 0, 1, ...
    ctype       of the result
    axes        for each operand which of the axes it has; the others repeat it. Of each axis the function is told how
                many elements it has.
    rank        how many axes there are
    """

    family = "elementwise"
    template = "neon/elementwise.c.j2"
    expression: Expression
    ctype: str
    axes: tuple[tuple[bool, ...], ...]
    rank: int

    @property
    def name(self) -> str:
        done = functions(self.expression)
        shown = "_".join(done[:SHOWN]) + ("_etc" if len(done) > SHOWN else "") if done else "copy"
        digest = sha256(repr((self.expression, self.axes, self.rank)).encode()).hexdigest()[:6]
        return f"{shown}_{self.ctype.removesuffix('_t')}_{digest}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        kinds = {o.index: o.ctype for o in operands(self.expression)}
        given = [Parameter(f"const {kinds.get(i, self.ctype)} *", f"x{i}") for i in range(len(self.axes))]
        sizes = [Parameter("size_t", f"n{i}") for i in range(self.rank)]
        return [*given, Parameter(f"{self.ctype} *", "y"), *sizes]

    @property
    def is_vector(self) -> bool:
        """Whether it is computed on vectors of floats."""
        return is_vector(self.expression)

    @property
    def unrolled(self) -> int:
        """Vectors that are computed side by side."""
        done = functions(self.expression)
        return UNROLLED if len(done) <= LIGHT and not any(f in LONG or f in EACH for f in done) else 1

    def strides(self, operand: int) -> list[str]:
        """Of an operand: how many elements it goes on along each axis but the last, when that axis ends; the products
        of its own sizes, as text."""
        made: list[str] = []
        for axis in range(self.rank - 1):
            inner = [f"n{k}" for k in range(axis + 1, self.rank) if self.axes[operand][k]]
            made.append((" * ".join(inner) or "1") if self.axes[operand][axis] else "0")
        return made

    def body(self, is_vector: bool) -> Body:
        """What is done with elements, or vectors of them, named e0, e1, ..."""
        names = {o.index: f"e{o.index}" for o in operands(self.expression)}
        if is_vector:
            return write(unrounded(self.expression), VECTOR, names)
        return write(self.expression, SCALAR, names)

    @property
    def used(self) -> list[Operand]:
        """The operands that the expression reads."""
        return operands(self.expression)

    # -- vectors ---------------------------------------------------------------------------------------------

    @property
    def signature(self) -> str:
        """Of the function of vectors."""
        given = ", ".join(f"{TYPES[o.ctype]} e{o.index}" for o in self.used)
        return f"INLINE {TYPES[self.ctype]} {self.name}_x4({given or 'void'})"

    def repeats(self, o: Operand) -> str:
        """An operand that the last axis lacks, in each lane."""
        if o.ctype == "half_t":
            return f"vdupq_n_f32(half_to_float(*p{o.index}))"
        return f"vdupq_n_f32(*p{o.index})" if o.ctype == "float" else f"mask_of_bool(*p{o.index})"

    @staticmethod
    def vector(ctype: str) -> str:
        """The type of four elements."""
        return TYPES[ctype]

    def value(self, step: int, count: str = "") -> str:
        """The function of vectors, `step` vectors on; of `count` elements if that is said."""
        return f"{self.name}_x4({', '.join(self._loaded(o, step, count) for o in self.used)})"

    def _loaded(self, o: Operand, step: int, count: str) -> str:
        if not self.axes[o.index][-1]:
            return f"e{o.index}"
        place = f"p{o.index} + i{f' + {LANES * step}' if step else ''}"
        if o.ctype == "bool8_t":
            return f"load_mask({place}, {count or LANES})"
        return loaded(o.ctype, place, count)

    def store(self, step: int, value: str, count: str = "") -> str:
        """The statement that stores a vector."""
        place = f"y + i{f' + {LANES * step}' if step else ''}"
        if self.ctype == "bool8_t":
            return f"store_mask({place}, {value}, {count or LANES});"
        return stored(self.ctype, place, value, count)

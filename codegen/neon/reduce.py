"""Reductions along any axes: one function for each formula and pattern of axes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from codegen.expression import Apply, Body, Expression, Operand, functions, operands, write
from codegen.neon.vectors import FLOATS, TYPES, VECTOR, is_vector, loaded, stored, unrounded
from codegen.program import Kernel, Parameter
from codegen.scalar import SCALAR

X, BASE, COUNT, SUM = range(4)  # what operands of the formulas are
NAMES = {X: "e", BASE: "b", COUNT: "count", SUM: "sum"}
LANES = {"add": "sum", "mul": "product", "max": "max", "min": "min"}  # functions of lanes, in simd_math.h
WIDTHS = (4, 1)  # vectors of results at a time


class Reduce(Kernel):
    """y[kept axes] = finish(the elements along the reduced axes, put together).

    combine  add, mul, max, min, or, and
    start    what no elements give
    each     what is put together: an expression of an element (X) and of what `base` holds for the result (BASE)
    finish   an expression of what was put together (SUM), of BASE, and of how many elements there were (COUNT)
    ctypes   of elements of x, of what is put together, of results; of elements of base, if there is one
    reduced  for each axis whether it goes; the function is told how many elements it has
    """

    family = "reduce"
    template = "neon/reduce.c.j2"
    combine: str
    start: Expression
    each: Expression
    finish: Expression
    ctypes: tuple[str, ...]
    reduced: tuple[bool, ...]

    @property
    def name(self) -> str:
        done = list(dict.fromkeys([*functions(self.each), self.combine, *functions(self.finish)]))
        key = (self.combine, self.start, self.each, self.finish, self.ctypes, self.reduced)
        kind = self.ctypes[0].removesuffix("_t")
        return f"reduce_{'_'.join(done)}_{kind}_{sha256(repr(key).encode()).hexdigest()[:6]}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        base = [Parameter(f"const {self.ctypes[3]} *", "base")] if self.has_base else []
        sizes = [Parameter("size_t", f"n{i}") for i in range(len(self.reduced))]
        return [Parameter(f"const {self.ctypes[0]} *", "x"), *base, Parameter(f"{self.ctypes[2]} *", "y"), *sizes]

    @property
    def has_base(self) -> bool:
        """Whether there is a number for each result that the formulas read."""
        return len(self.ctypes) > 3

    @property
    def is_vector(self) -> bool:
        """Whether it is computed on vectors of floats."""
        floats = self.ctypes[1] == "float" and all(ctype in FLOATS for ctype in self.ctypes)
        return floats and self.combine in LANES and is_vector(self.step) and is_vector(self.finish)

    @property
    def step(self) -> Expression:
        """What was put together, and one more."""
        return Apply(self.combine, (Operand(SUM, self.ctypes[1]), self.each), self.ctypes[1])

    @property
    def counts(self) -> bool:
        """Whether the number of elements is read."""
        return any(o.index == COUNT for o in operands(self.finish))

    # -- text ------------------------------------------------------------------------------------------------

    def axes(self, reduced: bool) -> list[int]:
        """Those that go, or those that stay."""
        return [i for i, gone in enumerate(self.reduced) if gone == reduced]

    def stride(self, axis: int) -> str:
        """Of x along an axis, with an operator before it."""
        return "".join(f" * n{i}" for i in range(axis + 1, len(self.reduced)))

    def offset(self, axes: Sequence[int]) -> str:
        """Of the element of x at i0, i1, ... along some axes."""
        return " + ".join(f"i{a}{self.stride(a)}" for a in axes)

    @property
    def last(self) -> int:
        """The last axis."""
        return len(self.reduced) - 1

    def body(self, is_step: bool, is_vector: bool) -> Body:
        """Of the functions of elements, or of vectors of them."""
        if is_vector:
            return write(self.step if is_step else unrounded(self.finish), VECTOR, NAMES)
        return write(self.step if is_step else self.finish, SCALAR, NAMES)

    def vector(self, place: str, operand: int = X) -> str:
        """Four elements of x, or of base."""
        return loaded(self._kind(operand), place)

    def vector_of(self, element: str) -> str:
        """An element of base in each lane."""
        return f"vdupq_n_f32({element if self._kind(BASE) == 'float' else f'half_to_float({element})'})"

    def put(self, place: str, value: str) -> str:
        """The statement that stores four results."""
        return stored(self.ctypes[2], place, value)

    def signature(self, is_step: bool, is_vector: bool) -> str:
        """Of these functions."""
        result = self.ctypes[1] if is_step else self.ctypes[2]
        given = ", ".join(f"{_type(self._kind(i), is_vector)} {NAMES[i]}" for i in self._read(is_step))
        name = f"{self.name}_{'step' if is_step else 'end'}{'_x4' if is_vector else ''}"
        return f"INLINE {_type(result, is_vector)} {name}({given})"

    def applied(self, is_step: bool, is_vector: bool, **values: str) -> str:
        """A call of one of these functions: operands by their names, `sum`, `e`, `b`, `count`."""
        name = f"{self.name}_{'step' if is_step else 'end'}{'_x4' if is_vector else ''}"
        return f"{name}({', '.join(values[NAMES[i]] for i in self._read(is_step))})"

    def reads_base(self, is_step: bool) -> bool:
        """Whether a function takes what `base` holds."""
        return BASE in self._read(is_step)

    def started(self, is_vector: bool) -> str:
        """What no elements give."""
        body = write(self.start, VECTOR if is_vector else SCALAR, {})
        return body.result

    @property
    def lanes(self) -> str:
        """The function that puts lanes together."""
        return LANES[self.combine]

    def both(self, a: str, b: str, is_vector: bool) -> str:
        """Two partial results put together."""
        made = Apply(self.combine, (Operand(0, self.ctypes[1]), Operand(1, self.ctypes[1])), self.ctypes[1])
        dialect = VECTOR if is_vector else SCALAR
        return dialect.writers[self.combine](made, [a, b])

    def _read(self, is_step: bool) -> list[int]:
        first = [SUM, X] if is_step else [SUM]
        found = {o.index for o in operands(self.step if is_step else self.finish)}
        return [*first, *(i for i in (BASE, COUNT) if i in found)]

    def _kind(self, operand: int) -> str:
        return {X: self.ctypes[0], BASE: self.ctypes[-1]}.get(operand, self.ctypes[1])


def _type(ctype: str, is_vector: bool) -> str:
    return TYPES[ctype] if is_vector else ctype

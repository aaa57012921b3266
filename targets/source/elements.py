"""How the elements of values are computed with: types of C, numbers, conversions."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.expression import Apply, Expression, Number
from codegen.scalar import FLOATS, HELD
from compiler.ops.numeric import integer_range
from compiler.tensor import DTYPES, DType
from targets.source.program import ctype_of

BOOL8 = "bool8_t"
TYPES = {  # of C, where they tell more than how many bytes an element takes
    "bool": BOOL8,
    **{name: f"{name}_t" for name in DTYPES if name.startswith(("f8", "f4"))},
    **{name: f"{'u' * (name[0] == 'u')}int{name[1:]}_t" for name in ("i4", "u4", "i2", "u2")},
}
KINDS = "fiub"  # of element types that can be computed with


def element_type(dtype: DType) -> str:
    """The type of C of an element that is computed with."""
    return TYPES.get(dtype.name) or ctype_of(dtype)


def plain_type(dtype: DType) -> str:
    """The type in which arithmetic on elements happens."""
    ctype = element_type(dtype)
    return HELD.get(ctype, ctype)


def convert(x: Expression, ctype: str, numbers: Sequence[float] = ()) -> Expression:
    """x as another type."""
    if x.ctype == ctype:
        return x
    if isinstance(x, Number) and ctype in FLOATS and x.ctype not in HELD:
        return Number(float(x.value), ctype)
    if x.ctype == BOOL8 and ctype == "float":
        return Apply("select", (x, Number(1.0), Number(0.0)))
    if x.ctype == "float" and ctype == BOOL8:
        return Apply("unequal", (x, Number(0.0)), BOOL8)
    return Apply("convert", (x,), ctype, tuple(numbers))


def widened(x: Expression) -> Expression:
    """x as the type in which arithmetic happens."""
    return convert(x, HELD.get(x.ctype, x.ctype))


def number(value: float, ctype: str) -> Expression:
    """A constant; -0 is told from 0, which is equal to it."""
    if ctype in FLOATS and value == 0 and str(float(value)).startswith("-"):
        return Apply("neg", (Number(0.0, ctype),), ctype)
    return Number(value if ctype not in FLOATS else float(value), ctype)


def bounds(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest value of an integer type, or of booleans."""
    return (0, 1) if dtype.kind == "b" else integer_range(dtype)

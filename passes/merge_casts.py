"""Merge two casts where the first loses nothing.

cast(cast(x, A), B) = cast(x, B) if every value of x's element type is a value of A and both casts are between floats,
between integers, or from bool; it is x itself if B is x's element type and A holds its values.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.elementwise import Cast
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule
from compiler.tensor import BF16, F16, F32, F64, DType

X = Wild()
INNER = Layer(Cast, X, shared=True)
OUTER = Layer(Cast, INNER)
PRECISION = {F16: (11, 5), BF16: (8, 8), F32: (24, 8), F64: (53, 11)}  # bits of the significand, of the exponent


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow` is one of `wide`."""
    if wide is narrow:
        return True
    if narrow.kind == "b":
        return wide.is_integer or wide in PRECISION
    if wide in PRECISION and narrow in PRECISION:
        return all(w >= n for w, n in zip(PRECISION[wide], PRECISION[narrow], strict=True))
    digits = narrow.bits - (narrow.kind == "i")
    if wide in PRECISION and narrow.is_integer:
        return digits <= PRECISION[wide][0] and narrow.bits <= 2 ** (PRECISION[wide][1] - 1)
    if wide.is_integer and narrow.is_integer:
        return digits <= wide.bits - (wide.kind == "i") and (wide.kind == "i" or narrow.kind == "u")
    return False


def cast_cast(m: Match, g: Builder) -> Value | None:
    """Two casts as one, or none."""
    x, middle, last = m.value(X), m.value(INNER).type.dtype, m.root.output.type.dtype
    first = x.type.dtype
    if not holds(middle, first):
        return None
    if last is first:
        return x
    alike = first.kind == "b" or (first.is_float and middle.is_float) or (first.is_integer and middle.is_integer)
    return g.add(m.root.op, x) if alike else None


class MergeCasts(RewritePass):
    """Cast of a Cast as one Cast, or as nothing."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(OUTER, cast_cast),)

"""Remove layers that give back their operand.

A cast, reshape, expansion or padding to the type it had; a transpose in order; a slice of all; a clip without bounds; a
concatenation with nothing; a sum of one; the pool of a pixel; x + 0, x - 0, x * 1, x / 1, x ** 1.
"""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.ops.activation import Clip
from compiler.ops.elementwise import Add, Cast, Div, Identity, Max, Mean, Min, Mul, Pow, Sub, Sum
from compiler.ops.parts import Concat, Pad, Slice, Split, Tile
from compiler.ops.pool import GlobalAveragePool, GlobalMaxPool
from compiler.ops.shape import Expand, Reshape, Transpose
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Const, Layer, Match, Wild
from compiler.rewrite import Builder, Rule

X = Wild()
BY_TYPE = (Identity, Cast, Reshape, Expand, Pad, Tile, GlobalAveragePool, GlobalMaxPool)


def _all_are(number: int) -> Const:
    return Const(
        where=lambda v: v.type.dtype.is_real and 0 < v.type.nbytes < 1 << 16 and bool(np.all(v.data == number))
    )


IDLE = (
    Layer(BY_TYPE, X, rest=True),
    Layer((Split, Sum, Max, Min, Mean), X),
    Layer(Transpose, X, where=lambda op: op.perm == tuple(range(len(op.perm)))),
    Layer(Slice, X, where=lambda op: all(step > 0 for step in op.steps)),
    Layer(Clip, X, where=lambda op: op == Clip()),
    *(Layer(op, X, _all_are(number)) for op, number in ((Add, 0), (Sub, 0), (Mul, 1), (Div, 1), (Pow, 1))),
)
JOINED = Layer(Concat, rest=True)


def operand(m: Match, _: Builder) -> Value | None:
    """The operand, if it has the type of the result."""
    return m.value(X) if [m.value(X).type] == [v.type for v in m.root.outputs] else None


def concat_nothing(m: Match, _: Builder) -> Value | None:
    """The operand beside which all others are empty."""
    return next((v for v in m.root.inputs if v is not None and v.type == m.root.output.type), None)


class RemoveIdentity(RewritePass):
    """Layers whose result is their operand."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return *(Rule(found, operand, "idle") for found in IDLE), Rule(JOINED, concat_nothing)

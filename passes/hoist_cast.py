"""Turn integers into floats before they are moved, and not after, for accelerators that do not move integers."""

from __future__ import annotations

from compiler import ops
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Result, Rule

MOVES = (ops.Reshape, ops.Transpose, ops.Slice, ops.Expand, ops.Tile)
X = Wild(where=lambda v: v.type.dtype.is_integer)
MOVED = Layer(MOVES, X)
CAST = Layer(ops.Cast, MOVED, where=lambda op: op.to in ("f16", "f32", "f64", "bf16"))


def hoisted(m: Match, b: Builder) -> Result:
    """The same numbers, moved as floats."""
    return b.add(m.node(MOVED).op, b.add(m.root.op, m.value(X)))


class HoistCast(RewritePass):
    """Casts of moved integers to floats, where nothing else reads what was moved."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(CAST, hoisted),)

"""Compute repetitions as concatenations of a value with itself, for accelerators that only have these."""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.parts import Concat, Tile
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of

MOST = 16  # copies along an axis


def parts(add: Layers, op: Tile, x: Value) -> Value | None:
    """One concatenation along each axis that is repeated."""
    if max(op.repeats, default=1) > MOST:
        return None
    for axis, count in enumerate(op.repeats):
        x = x if count == 1 else add(Concat(axis=axis), *[x] * count)
    return x


class SubstituteTile(RewritePass):
    """Values of floats that are repeated a few times become concatenations."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Tile, parts),)

"""Merge pads that follow each other and fill with the same.

pad(pad(x, p), q) = pad(x, p + q) for one constant, and where both repeat the outermost element (edge).
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.parts import Pad
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule

X = Wild()
INNER = Layer(Pad, X)
OUTER = Layer(Pad, INNER)


def pad_pad(m: Match, g: Builder) -> Value | None:
    """Two pads as one."""
    inner, outer = m.op(INNER), m.op(OUTER)
    if inner.mode != outer.mode or inner.mode not in ("constant", "edge") or inner.value != outer.value:
        return None
    return g.add(outer.with_(pads=tuple(p + q for p, q in zip(inner.pads, outer.pads, strict=True))), m.value(X))


class MergePads(RewritePass):
    """Pad of a Pad as one Pad."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(OUTER, pad_pad),)

"""Merge clips and rectifiers that follow each other.

clip(x; a, b) = min(max(x, a), b), so clip(clip(x; a, b); c, d) = clip(x; clip(a; c, d), clip(b; c, d)): clipping is
monotone, and NaN stays. That also holds where a > b (every element becomes b). relu(x) = clip(x; 0, inf).
"""

from __future__ import annotations

from math import inf

from compiler.graph import Value
from compiler.op import Op
from compiler.ops.activation import Clip, Relu
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule
from passes._chains import chain

OUTER = Layer((Clip, Relu), Layer((Clip, Relu), Wild()))


def bounds(op: Op) -> tuple[float, float]:
    """Low and high of a clip; a rectifier is one from 0."""
    return (op.low, op.high) if isinstance(op, Clip) else (0.0, inf)


def clip_clip(m: Match, g: Builder) -> Value | None:
    """A chain of clips as one."""
    found = chain(m.root, g, Clip, Relu)
    if found is None:
        return None
    x, ops = found
    low, high = bounds(ops[0])
    for c, d in map(bounds, ops[1:]):
        low, high = min(max(low, c), d), min(max(high, c), d)
    relu = (low, high) == (0, inf) and x.type.dtype.kind in "fi"
    return g.add(Relu() if relu else Clip(low=low, high=high), x)


class MergeClips(RewritePass):
    """Clip or Relu of a Clip or Relu as one of them."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(OUTER, clip_clip),)

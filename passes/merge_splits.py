"""Remove splits that undo a concatenation or are undone by one, and splits of which one part is read.

concat(split(x)) = x and split(concat(a, b)) = a, b along one axis, if the parts are the same. A split with one reader
is a slice.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.graph import Value
from compiler.ops.parts import Concat, Slice, Split
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule

X = Wild()
SPLIT = Layer(Split, X)
PARTS = Layer(Split, X, shared=True)
JOINED = Layer(Concat, PARTS, rest=True)
CONCAT = Layer(Concat, rest=True, shared=True)
UNDONE = Layer(Split, CONCAT)


def concat_split(m: Match, _: Builder) -> Value | None:
    """All parts of a split, joined in their order."""
    parts = m.node(PARTS)
    whole = m.root.inputs == parts.outputs and m.op(JOINED).axis == m.op(PARTS).axis
    return m.value(X) if whole else None


def split_concat(m: Match, _: Builder) -> Sequence[Value] | None:
    """The operands of a concatenation, taken apart again."""
    operands = [v for v in m.node(CONCAT).inputs if v is not None]
    same = m.op(UNDONE).axis == m.op(CONCAT).axis and [v.type for v in operands] == [v.type for v in m.root.outputs]
    return operands if same else None


def lone_part(m: Match, g: Builder) -> Sequence[Value] | None:
    """The only part of a split that is read."""
    read = [v for v in m.root.outputs if v.is_read]
    if len(read) != 1:
        return None
    op, x = m.op(SPLIT), m.value(X)
    start = sum(op.sizes[: read[0].index])
    part = g.add(Slice.of(x.type, [op.axis], [start], [start + op.sizes[read[0].index]]), x)
    return [part if v is read[0] else v for v in m.root.outputs]


class MergeSplits(RewritePass):
    """Split next to a Concat as nothing; Split with one result that is read as Slice."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return Rule(JOINED, concat_split), Rule(UNDONE, split_concat), Rule(SPLIT, lone_part)

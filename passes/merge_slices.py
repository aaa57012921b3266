"""Merge slices that follow each other, and read a slice of a concatenation from the operand that it lies in.

Along an axis slice(slice(x; s, t); u, v) has the elements s + t * (u + v * i) of x, for starts s, u and steps t, v.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.parts import WHOLE, Concat, Slice
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule
from compiler.tensor import Dim

X = Wild()
INNER = Layer(Slice, X, shared=True)
OUTER = Layer(Slice, INNER)
JOINED = Layer(Concat, rest=True, shared=True)
PART = Layer(Slice, JOINED)


def bounds(start: int, step: int, length: Dim) -> tuple[int, int, int]:
    """Start, end and step of a slice along one axis, by its length."""
    if isinstance(length, str) or length < 2:
        return (0, WHOLE, 1) if isinstance(length, str) else (start * length, (start + 1) * length, 1)
    return start, start + step * (length - 1) + (1 if step > 0 else -1), step


def slice_slice(m: Match, g: Builder) -> Value:
    """Two slices as one."""
    a, b = m.op(INNER), m.op(OUTER)
    axes = zip(a.starts, a.steps, b.starts, b.steps, m.root.output.type.shape, strict=True)
    cut = [bounds(s + t * u, t * v, d) for s, t, u, v, d in axes]
    starts, ends, steps = (tuple(c[i] for c in cut) for i in range(3))
    return g.add(Slice(starts=starts, ends=ends, steps=steps), m.value(X))


def slice_concat(m: Match, g: Builder) -> Value | None:
    """A slice that lies in one operand of a concatenation."""
    op, axis = m.op(PART), m.op(JOINED).axis
    start, end = op.starts[axis], op.ends[axis]
    for operand in m.node(JOINED).inputs:
        length = operand.type.shape[axis] if operand is not None else ""
        if isinstance(length, str) or op.steps[axis] < 0:
            break
        if start >= 0 and end <= length:
            starts, ends = ((*v[:axis], n, *v[axis + 1 :]) for v, n in ((op.starts, start), (op.ends, end)))
            return g.add(op.with_(starts=starts, ends=ends), operand)
        start, end = start - length, end - length
    return None


class MergeSlices(RewritePass):
    """Slice of a Slice as one Slice; Slice of a Concat as a Slice of one operand."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return Rule(OUTER, slice_slice), Rule(PART, slice_concat)

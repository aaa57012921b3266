"""Merge concatenations along one axis that are operands of each other.

concat(a, concat(b, c), d) = concat(a, b, c, d) along the same axis.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.parts import Concat
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Layer, Match
from compiler.rewrite import Builder, Rule

OUTER = Layer(Concat, rest=True)


def nested(m: Match, g: Builder) -> Value | None:
    """The operands of the inner concatenations in their place."""
    axis = m.op(OUTER).axis
    flat: list[Value | None] = []
    for v in m.root.inputs:
        inner = v.node if v is not None and v.node is not None and type(v.node.op) is Concat else None
        once = inner is not None and inner.op == m.root.op and len(inner.output.users) == 1 and not inner.output.n_out
        if inner is not None and once:
            flat.extend(inner.inputs)
            g.origin |= inner.origin
        else:
            flat.append(v)
    return g.add(Concat(axis=axis), *flat) if len(flat) != len(m.root.inputs) else None


class MergeConcats(RewritePass):
    """Concat with operands that are Concats."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(OUTER, nested),)

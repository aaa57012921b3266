"""Merge reshapes that follow each other, also past layers that do not care about the shape.

reshape(reshape(x, s), t) = reshape(x, t), since neither changes the row-major order of the elements, and
reshape(f(reshape(x, s)), t) = reshape(f(x), t) for a function f of single elements.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.shape import Reshape
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule
from passes._chains import around_functions, chain, past_functions

OUTER = Layer(Reshape, Layer(Reshape, Wild(), shared=True))
AROUND = around_functions(Reshape)


def reshape_reshape(m: Match, g: Builder) -> Value | None:
    """A chain of reshapes as one, or none."""
    found = chain(m.root, g, Reshape, through_shared=True)
    if found is None:
        return None
    x = found[0]
    return x if x.type == m.root.output.type else g.add(m.root.op, x)


def reshape_functions(m: Match, g: Builder) -> Value | None:
    """Two reshapes around functions of single elements as one after them, or none."""
    found = past_functions(m.root, g, Reshape)
    if found is None:
        return None
    y = found[1]
    return y if y.type == m.root.output.type else g.add(m.root.op, y)


class MergeReshapes(RewritePass):
    """Reshape of a Reshape, or of a function of one, as one Reshape, or as nothing."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return Rule(OUTER, reshape_reshape), Rule(AROUND, reshape_functions)

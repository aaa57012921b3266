"""Merge transposes that follow each other, and write those that move nothing but dimensions of 1 as reshapes.

transpose(transpose(x, p), q) has axis p[q[i]] of x as its axis i, also with functions of single elements between them.
If the axes longer than 1 keep their order, so do the elements in memory, and the layer is a reshape.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.graph import Value
from compiler.op import Op
from compiler.ops.shape import Reshape, Transpose
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule
from passes._chains import around_functions, chain, past_functions

X = Wild()
OUTER = Layer(Transpose, Layer(Transpose, Wild(), shared=True))
AROUND = around_functions(Transpose)
ALONE = Layer(Transpose, X)


def transposed(g: Builder, x: Value, ops: Sequence[Op]) -> Value:
    """x after transposes one after the other, as one layer or none."""
    perm = tuple(range(x.type.rank))
    for op in ops:
        perm = tuple(perm[i] for i in op.values()["perm"])
    return x if perm == tuple(sorted(perm)) else g.add(Transpose(perm=perm), x)


def transpose_transpose(m: Match, g: Builder) -> Value | None:
    """A chain of transposes."""
    found = chain(m.root, g, Transpose, through_shared=True)
    return None if found is None else transposed(g, *found)


def transpose_functions(m: Match, g: Builder) -> Value | None:
    """Two transposes around functions of single elements, as one after them."""
    found = past_functions(m.root, g, Transpose)
    return None if found is None else transposed(g, found[1], (found[0], m.root.op))


def transpose_units(m: Match, g: Builder) -> Value | None:
    """A transpose, at the end of its chain, that leaves every element where it is in memory."""
    x, last = m.value(X), chain(m.root, g, Transpose, through_shared=True) is not None
    moved = [i for i in m.op(ALONE).perm if x.type.shape[i] != 1]
    fits = moved == sorted(moved) and sum(isinstance(d, str) for d in x.type.shape) < 2
    return g.add(Reshape(shape=m.root.output.type.shape), x) if last and fits else None


class MergeTransposes(RewritePass):
    """Transpose of a Transpose, or of a function of one, as one Transpose or nothing; of dimensions of 1 as Reshape."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return Rule(OUTER, transpose_transpose), Rule(AROUND, transpose_functions), Rule(ALONE, transpose_units)

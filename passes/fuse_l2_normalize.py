"""Fuse the division by a Euclidean norm into one layer.

lp_normalize(x) = x / max(|x|, eps) with |x| = sqrt(sum(x^2)) along one axis, as torch's `normalize` computes it;
TensorFlow's l2_normalize, x / sqrt(max(sum(x^2), e)), is the one with eps = sqrt(e). Without a bound a zero vector
gives NaN, which the layer does not: that form is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt

from compiler.graph import Value
from compiler.ops.activation import Clip
from compiler.ops.elementwise import Div, Max, Mul
from compiler.ops.reduce import ReduceL2, ReduceSum, ReduceSumSquare
from compiler.ops.shape import Expand
from compiler.ops.softmax import LpNormalize
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, OneOf, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import along_one_axis, inverse_root, number, root, scalar, square

X, BOUND = Wild(), scalar()
NORM = Layer(ReduceL2, X, where=along_one_axis)
SUM = Layer(ReduceSum, square(X), where=along_one_axis)
SUM_SQUARE = Layer(ReduceSumSquare, X, where=along_one_axis)
LENGTH, SQUARES = OneOf(NORM, root(SUM), root(SUM_SQUARE)), OneOf(SUM, SUM_SQUARE)
CLIPPED, CLIPPED_SQUARES = (Layer(Clip, v, where=lambda op: op.high == inf) for v in (LENGTH, SQUARES))
BOUNDED = OneOf(Layer(Max, LENGTH, BOUND), CLIPPED)
BOUNDED_SQUARES = OneOf(Layer(Max, SQUARES, BOUND), CLIPPED_SQUARES)
BY_LENGTH = Layer(Div, X, OneOf(BOUNDED, Layer(Expand, BOUNDED)))
BY_SQUARES = Layer(Div, X, root(BOUNDED_SQUARES)), Layer(Mul, X, inverse_root(BOUNDED_SQUARES))


def normalize(clip: Layer, eps: Callable[[float], float]) -> Callable[[Match, Builder], Value | None]:
    """The layer whose eps follows from the bound, an operand or the lower end of `clip`."""

    def replace(m: Match, g: Builder) -> Value | None:
        bound = number(m[BOUND]) if BOUND in m else m.op(clip).low
        (axis,) = next(m.op(r).axes for r in (NORM, SUM, SUM_SQUARE) if r in m)
        x = m.value(X)
        if not bound > 0 or not x.type.dtype.is_float or x.type != m.root.output.type:
            return None
        return g.add(LpNormalize(axis=axis, eps=eps(bound)), x)

    return replace


class FuseL2Normalize(RewritePass):
    """Norm, bound and quotient become one `lp_normalize`, whose multiplications alone are counted (`adds_work`)."""

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        squares = (Rule(find, normalize(CLIPPED_SQUARES, sqrt), "squares") for find in BY_SQUARES)
        return Rule(BY_LENGTH, normalize(CLIPPED, lambda bound: bound), "length"), *squares

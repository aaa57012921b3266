"""Fuse the layers of a root mean square normalisation into one.

rms_norm(x) = x / sqrt(mean(x^2) + eps) * scale over the last axes (Zhang & Sennrich, arXiv:1910.07467). What divides
becomes a layer with a scale of ones, then the factor that follows becomes its scale. Casts to f32 around it, as
models in f16 have them, are dropped: the layer itself computes in f32.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.norm import RmsNorm
from compiler.ops.reduce import ReduceMean
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import square
from passes._normalize import affine_rules, eps_of, ones, over_deviation, trailing_axis

X = Wild()
MEAN_SQUARE = Layer(ReduceMean, square(X))


def divide(m: Match, g: Builder) -> Value | None:
    """The layer with a scale of ones."""
    x, axis, eps = m.value(X), trailing_axis(m, X, MEAN_SQUARE), eps_of(m)
    scale = None if axis is None else ones(g, x, axis)
    if axis is None or eps is None or scale is None:
        return None
    return g.add(RmsNorm(axis=axis, eps=eps), x, scale)


class FuseRmsNorm(RewritePass):
    """Six or more layers become one `rms_norm`.

    `adds_work`: the multiplications of an rms_norm are counted, those of the separate layers are not.
    """

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return *(Rule(find, divide) for find in over_deviation(X, MEAN_SQUARE)), *affine_rules(RmsNorm, biased=False)

"""Fuse the layers of a layer normalisation into one.

layer_norm(x) = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * scale + bias over the last axes (Ba et al.,
arXiv:1607.06450); also written x k + (bias - mean(x) k) or (x - mean(x)) k with k = scale / sqrt(variance + eps). First
what standardises becomes a layer with a scale of ones, then the factor and the term that follow become its scale and
its bias.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.elementwise import Add, Mul, Sub
from compiler.ops.norm import LayerNorm
from compiler.ops.reduce import ReduceMean
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, OneOf, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import inverse_root, square
from passes._normalize import affine_rules, eps_of, ones, over_deviation, stabilised, trailing, trailing_axis

X, GAMMA, BETA = Wild(), Wild(), Wild()
MEAN = Layer(ReduceMean, X)
CENTRED = Layer(Sub, X, MEAN)
VARIANCE = Layer(ReduceMean, square(CENTRED))
INVERSE = inverse_root(stabilised(VARIANCE))
K = OneOf(Layer(Mul, INVERSE, GAMMA), INVERSE)
FACTORED = Layer(Mul, CENTRED, Layer(Mul, INVERSE, GAMMA))
LINE = Layer(Add, Layer(Mul, X, K), Layer(Sub, BETA, Layer(Mul, MEAN, K)))


def standardise(m: Match, g: Builder) -> Value | None:
    """The layer with a scale of ones, or with the scale and the bias of the other form."""
    x, axis, eps = m.value(X), trailing_axis(m, X, MEAN, VARIANCE), eps_of(m)
    if axis is None or eps is None:
        return None
    scale = trailing(g, m.value(GAMMA), x, axis) if GAMMA in m else ones(g, x, axis)
    bias = trailing(g, m.value(BETA), x, axis) if BETA in m else None
    if scale is None or (BETA in m and bias is None):
        return None
    return g.add(LayerNorm(axis=axis, eps=eps), x, scale, *([bias] if bias else []))


class FuseLayerNorm(RewritePass):
    """Nine or more layers become one `layer_norm`.

    `adds_work`: the multiplications of a layer_norm are counted, those of the separate layers are not.
    """

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        found = (*over_deviation(CENTRED, VARIANCE), FACTORED, LINE)
        return *(Rule(find, standardise) for find in found), *affine_rules(LayerNorm, biased=True)

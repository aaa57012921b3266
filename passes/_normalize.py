"""Normalisations over trailing axes as exporters compose them, and what may be drawn into them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler.graph import Value
from compiler.ops.elementwise import Add, Cast, Div, Mul
from compiler.ops.norm import GroupNorm, InstanceNorm, TrailingNorm
from compiler.pattern import Const, Layer, Match, OneOf, Pattern, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import inverse_root, root, scalar, splat

Replace = Callable[[Match, Builder], Value | None]
EPS = scalar()


def stabilised(mean_square: Pattern) -> Pattern:
    """mean_square + EPS; EPS may be missing."""
    return OneOf(Layer(Add, mean_square, EPS), mean_square)


def over_deviation(y: Pattern, mean_square: Pattern) -> tuple[Layer, ...]:
    """y / sqrt(mean_square + EPS), as roots of rules."""
    variance = stabilised(mean_square)
    return Layer(Div, y, root(variance)), Layer(Mul, y, inverse_root(variance))


def trailing_axis(m: Match, x: Pattern, *reductions: Layer) -> int | None:
    """The first axis of `x` that all reductions are over, if they are over the same last axes and keep them as 1."""
    axes, rank = m.op(reductions[0]).axes, m.value(x).type.rank
    same = all(m.op(r).axes == axes and m.op(r).keepdims for r in reductions)
    return axes[0] if same and axes == tuple(range(axes[0], rank)) else None


def eps_of(m: Match) -> float | None:
    """The number that is added below the root: 0 if there is none, None if it is negative."""
    if EPS not in m:
        return 0.0
    value = float(m[EPS].item())
    return value if value >= 0 else None


def ones(g: Builder, x: Value, axis: int) -> Value | None:
    """A scale of ones, which takes no memory, for the axes of `x` from `axis` on; None while they are not bound."""
    dims = x.type.shape[axis:]
    if not all(type(d) is int for d in dims):
        return None
    return g.const(np.broadcast_to(np.ones((), x.type.dtype.numpy), [d for d in dims if type(d) is int]))


def trailing(g: Builder, v: Value, x: Value, axis: int) -> Value | None:
    """`v` as an operand that broadcasts to the axes of `x` from `axis` on: leading ones of a constant are dropped.
    None if it does not fit."""
    shape, rank = v.type.shape, x.type.rank - axis
    if v.type.dtype is not x.type.dtype or any(d != 1 for d in shape[: max(len(shape) - rank, 0)]):
        return None
    fits = all(d in (1, n) for d, n in zip(reversed(shape[-rank:]), reversed(x.type.shape), strict=False))
    if len(shape) <= rank or not fits:
        return v if fits else None
    return None if v.data is None else g.const(v.data.reshape(shape[-rank:]), like=v)


def affine_rules(norm: type[TrailingNorm], biased: bool) -> tuple[Rule, ...]:
    """Draw a factor into the scale of a normalisation that has a scale of ones; with `biased`, also a term into its
    bias; and drop the casts around one that computes in f32 what is stored in 16 bits."""
    x, scale, other, wide = Wild(), Wild(), Wild(), Wild()
    plain = Layer(norm, x, Const(where=lambda v: splat(v.data, 1)))
    scaled, inner = Layer(norm, x, scale), Layer(norm, Layer(Cast, wide), plain.operands[1])

    def draw(layer: Layer, operands: Callable[[Match, Value], tuple[Value, ...]]) -> Replace:
        def replace(m: Match, g: Builder) -> Value | None:
            operand, op = m.value(x), m.op(layer)
            fitted = trailing(g, m.value(other), operand, op.axis)
            return None if fitted is None else g.add(op, operand, *operands(m, fitted))

        return replace

    def narrow(m: Match, g: Builder) -> Value | None:
        operand, op = m.value(wide), m.op(inner)
        unit = ones(g, operand, op.axis)
        if operand.type != m.root.output.type or operand.type.dtype.bits != 16 or unit is None:
            return None
        return g.add(op, operand, unit)

    rules = [
        Rule(Layer(Mul, plain, other), draw(plain, lambda _, v: (v,)), "scale"),
        Rule(Layer(Cast, inner), narrow, "narrow"),
    ]
    if biased:
        rules.append(Rule(Layer(Add, scaled, other), draw(scaled, lambda m, v: (m.value(scale), v)), "bias"))
    return tuple(rules)


def channels(g: Builder, v: Value, x: Value) -> Value | None:
    """The constant `v` as one number per channel of `x` [N,C,*S]; None if it is not that."""
    shape, rank, c = v.type.shape, x.type.rank, x.type.shape[1]
    axis = len(shape) - rank + 1  # where the channels of x meet v
    if v.data is None or axis > 1 or type(c) is not int or not x.type.dtype.is_float:
        return None
    if any(d != 1 for i, d in enumerate(shape) if i != axis) or (axis >= 0 and shape[axis] not in (1, c)):
        return None
    return g.const(np.broadcast_to(v.data.reshape(-1), (c,)), like=v)


def channel_rules(norm: type[InstanceNorm | GroupNorm]) -> tuple[Rule, ...]:
    """Draw the factor and then the term per channel that follow a normalisation into its scale and its bias."""
    x, scale, bias, other = Wild(), Const(), Const(), Const()
    layer = Layer(norm, x, scale, bias)

    def factor(m: Match, g: Builder) -> Value | None:
        k = channels(g, m.value(other), m.value(x))
        if k is None or k.data is None:
            return None
        drawn = (g.const(m[p] * k.data, like=m.value(p)) for p in (scale, bias))
        return g.add(m.op(layer), m.value(x), *drawn)

    def term(m: Match, g: Builder) -> Value | None:
        k = channels(g, m.value(other), m.value(x))
        if k is None or k.data is None:
            return None
        return g.add(m.op(layer), m.value(x), m.value(scale), g.const(m[bias] + k.data, like=m.value(bias)))

    return Rule(Layer(Mul, layer, other), factor), Rule(Layer(Add, layer, other), term)

"""Fold a batch normalisation into the convolution or dense layer next to it.

With k = scale / sqrt(var + eps) and s = bias - k * mean: bn(y) = k * y + s (Ioffe & Szegedy, arXiv:1502.03167), so
bn(conv(x, w, b)) = conv(x, k * w, k * b + s) with k along the output channels, and
conv(bn(x), w, b) = conv(x, w * k, b + sum(w * s)) with k along the input channels, where the convolution adds no
padding (its zeros would have to become -s / k) or s is zero.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.pass_base import RewritePass
from compiler.pattern import Match, Wild
from compiler.rewrite import Builder, Rule, Skip
from passes._linear import affine_of, after, batch_norm, before, channel_axis, linear

X = Wild()
LAYER_BEFORE = linear(X)
NORM = batch_norm(LAYER_BEFORE)
NORM_BEFORE = batch_norm(X)
LAYER = linear(NORM_BEFORE)


def norm_after(m: Match, g: Builder) -> Value | Skip | None:
    """bn(layer(x)) as one layer."""
    y = m.value(LAYER_BEFORE)
    a = affine_of(m.root, y, channel_axis(m.op(LAYER_BEFORE), y.type))
    return after(g, m.node(LAYER_BEFORE), a) if a and not isinstance(a, Skip) else a


def norm_before(m: Match, g: Builder) -> Value | Skip | None:
    """layer(bn(x)) as one layer."""
    x = m.value(X)
    a = affine_of(m.node(NORM_BEFORE), x, channel_axis(m.op(LAYER), x.type))
    return before(g, m.root, x, a) if a and not isinstance(a, Skip) else a


class FuseConvBatchNorm(RewritePass):
    """Batch normalisations with constant statistics after or before a Conv, ConvTranspose or Dense layer."""

    def rules(self) -> tuple[Rule, ...]:
        return Rule(NORM, norm_after), Rule(LAYER, norm_before)

"""Merge per-channel constants that are multiplied or added into the convolution or dense layer next to them.

k * layer(x, w, b) + s = layer(x, k * w, k * b + s) along the output channels, and
layer(k * x + s, w, b) = layer(x, w * k, b + sum(w * s)) along the input channels, a shift only where nothing is padded.
x - c and c - x are sums, x / c is a product with 1 / c.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Replace, Rule, Skip
from passes._linear import affine_of, after, arithmetic, before, channel_axis, linear

X = Wild()
LAYER_BEFORE = linear(X)
AFTER = arithmetic(LAYER_BEFORE)
BEFORE = tuple((found, linear(found)) for found in arithmetic(X))


class FuseScale(RewritePass):
    """Add, Sub, Mul and Div by constants after or before a Conv, ConvTranspose or Dense layer.

    max_bytes   a larger weight is not scaled, so that it stays where it is in the file; shifts touch no weight
    """

    max_bytes: int = 1 << 26

    def rules(self) -> tuple[Rule, ...]:
        following = (Rule(root, self._after, "scale_after") for root in AFTER)
        preceding = (Rule(root, self._before(found), "scale_before") for found, root in BEFORE)
        return *following, *preceding

    def _after(self, m: Match, g: Builder) -> Value | Skip | None:
        layer, y = m.node(LAYER_BEFORE), m.value(LAYER_BEFORE)
        a = affine_of(m.root, y, channel_axis(layer.op, y.type))
        if a is None or isinstance(a, Skip):
            return a
        return after(g, layer, a) if a.scale is None else self._small(layer.inputs[1]) or after(g, layer, a)

    def _before(self, found: Layer) -> Replace:
        def fold(m: Match, g: Builder) -> Value | Skip | None:
            x = m.value(X)
            a = affine_of(m.node(found), x, channel_axis(m.root.op, x.type))
            if a is None or isinstance(a, Skip):
                return a
            return self._small(m.root.inputs[1]) or before(g, m.root, x, a)

        return fold

    def _small(self, w: Value | None) -> Skip | None:
        assert w is not None
        return Skip(f"the weight has more than {self.max_bytes} bytes") if w.type.nbytes > self.max_bytes else None

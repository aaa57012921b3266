"""Fuse a normalisation over all spatial axes and the affine map per channel after it into an instance normalisation.

instance_norm(x) = (x - mean(x)) / sqrt(var(x) + eps) * scale + bias with statistics over the axes from 2 on and one
scale and bias per channel (Ulyanov et al., arXiv:1607.08022). `fuse-layer-norm` has found what standardises.
"""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.ops.elementwise import Mul
from compiler.ops.norm import InstanceNorm, LayerNorm
from compiler.pass_base import RewritePass
from compiler.pattern import Const, Layer, Match, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import splat
from passes._normalize import channel_rules, channels

X, SCALE = Wild(), Const()
STANDARD = Layer(LayerNorm, X, Const(where=lambda v: splat(v.data, 1)), where=lambda op: op.axis == 2)
SCALED = Layer(Mul, STANDARD, SCALE)


def scaled(m: Match, g: Builder) -> Value | None:
    """The layer with a bias of zeros."""
    x = m.value(X)
    scale = channels(g, m.value(SCALE), x)
    if scale is None:
        return None
    bias = g.const(np.zeros(scale.type.dims, x.type.dtype.numpy))
    return g.add(InstanceNorm(eps=m.op(STANDARD).eps), x, scale, bias)


class FuseInstanceNorm(RewritePass):
    """A normalisation over the spatial axes and what follows per channel become one `instance_norm`."""

    def rules(self) -> tuple[Rule, ...]:
        return Rule(SCALED, scaled), *channel_rules(InstanceNorm)

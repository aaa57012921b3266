"""Fuse a group normalisation: channels are reshaped into groups, each group is standardised, and reshaped back.

group_norm(x) = (x - mean) / sqrt(variance + eps) * scale + bias with statistics over each of G groups of channels
and all positions (Wu & He, arXiv:1803.08494). Exporters standardise [N, G, -1] with an instance or layer
normalisation, whose own scale and bias, one per group, are repeated for the channels of the group.
"""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.ops.norm import GroupNorm, InstanceNorm, LayerNorm
from compiler.ops.shape import Reshape
from compiler.pass_base import RewritePass
from compiler.pattern import Const, Layer, Match, OneOf, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import splat
from passes._normalize import channel_rules

X, SCALE, BIAS = Wild(), Const(), Const()
GROUPED = Layer(Reshape, X)
INSTANCE = Layer(InstanceNorm, GROUPED, SCALE, BIAS)
STANDARD = Layer(LayerNorm, GROUPED, Const(where=lambda v: splat(v.data, 1)), where=lambda op: op.axis == 2)
BACK = Layer(Reshape, OneOf(INSTANCE, STANDARD))


def group(m: Match, g: Builder) -> Value | None:
    """The layer, if the reshapes cut the channel axis alone and undo each other."""
    x, grouped = m.value(X).type, m.op(GROUPED).shape
    if x != m.root.output.type or x.rank < 3 or len(grouped) < 3 or grouped[0] != x.shape[0]:
        return None
    c, groups = x.shape[1], grouped[1]
    if type(c) is not int or type(groups) is not int or not groups or c % groups:
        return None
    instance = INSTANCE in m
    scale, bias = (m[SCALE], m[BIAS]) if instance else (np.ones(groups), np.zeros(groups))
    operands = (g.const(np.repeat(v, c // groups), like=x) for v in (scale, bias))
    eps = m.op(INSTANCE if instance else STANDARD).eps
    return g.add(GroupNorm(groups=groups, eps=eps), m.value(X), *operands)


class FuseGroupNorm(RewritePass):
    """Two reshapes, a normalisation and what follows per channel become one `group_norm`."""

    def rules(self) -> tuple[Rule, ...]:
        return Rule(BACK, group), *channel_rules(GroupNorm)

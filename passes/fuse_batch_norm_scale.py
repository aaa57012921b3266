"""Merge per-channel constants that are multiplied or added into the batch normalisation next to them.

m * bn(x) + a = bn'(x) with scale' = m * scale and bias' = m * bias + a; a second batch normalisation is such an m, a.
bn(m * x + a) = bn'(x) with scale' = m * scale and mean' = (mean - a) / m, where no m is zero.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from compiler.graph import Value
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule, Skip
from passes._linear import affine_of, arithmetic, batch_norm, norm_with, statistics

X = Wild()
NORM = batch_norm(X)
AFTER = (*arithmetic(NORM), batch_norm(NORM))
BEFORE = tuple((found, batch_norm(found)) for found in arithmetic(X))


def scale_after(m: Match, g: Builder) -> Value | Skip | None:
    """A batch normalisation, then an affine map per channel."""
    a = affine_of(m.root, m.value(NORM), 1)
    if a is None or isinstance(a, Skip):
        return a
    norm = m.node(NORM)
    scale, bias, mean, _ = statistics(norm)
    k = 1 if a.scale is None else a.scale
    return norm_with(g, norm, m.value(X), (scale * k, bias * k + (0 if a.shift is None else a.shift), mean))


def scale_before(found: Layer, m: Match, g: Builder) -> Value | Skip | None:
    """An affine map per channel, then a batch normalisation."""
    a = affine_of(m.node(found), m.value(X), 1)
    if a is None or isinstance(a, Skip):
        return a
    k = np.ones(()) if a.scale is None else a.scale
    if not np.all(k):
        return Skip("multiplies by zero")
    scale, bias, mean, _ = statistics(m.root)
    return norm_with(g, m.root, m.value(X), (scale * k, bias, (mean - (0 if a.shift is None else a.shift)) / k))


class FuseBatchNormScale(RewritePass):
    """Add, Sub, Mul, Div by constants, and batch normalisations, after or before a batch normalisation."""

    def rules(self) -> tuple[Rule, ...]:
        before = (Rule(root, partial(scale_before, found), "scale_before") for found, root in BEFORE)
        return *(Rule(root, scale_after) for root in AFTER), *before

"""How much noise the integers of a layer bring to its result, as its operand's channels are scaled.

With numbers x of reach r and weights w: rounding x to 1/255 of the largest reach brings sums of w^2, rounding each row
of w to 1/127 of its largest brings sums of x^2. A factor on a channel makes one smaller and the other larger.
"""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.tensor import Array
from passes._fitted import data_of
from passes._gram import as_rows
from passes._scales import End, Factors, classes_of

POWER = 0.04  # mean square of activations, as a share of the square of their reach
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def regional(factors: Factors, reach: Array) -> Array:
    """The exponent for each class of factors that brings the least noise: one for all that meet in a value."""
    pairs = [(factors.classes[e.ids.reshape(-1)], factors.classes[e.ids.reshape(-1)[:1]]) for e in factors.takes]
    links = [(a, np.broadcast_to(b, a.shape)) for a, b in pairs]
    regions = classes_of(factors.count, links)
    costs = np.zeros((factors.count, len(ALPHAS)))
    for end, (a, _) in zip(factors.takes, links, strict=True):
        if type(end.node.op) in (ops.Conv, ops.Dense, ops.MatMul):
            free = ~factors.fixed[a]
            costs[regions[a[0]]] += [_noise(end, reach[a], np.where(free, alpha, 0.0)) for alpha in ALPHAS]
    return np.asarray(np.array(ALPHAS)[costs.argmin(1)])[regions]


def _noise(end: End, reach: Array, alpha: Array) -> float:
    """Of the result, as a share of its power."""
    w = as_rows(end.node, data_of(end.node.inputs[1])).astype(np.float64)
    r = np.maximum(reach, 1e-3)
    s = r**-alpha
    taps = w.shape[0] * w.shape[2] // len(r)
    r, s = (np.repeat(v, taps).reshape(w.shape[0], 1, w.shape[2]) for v in (r, s))
    power = POWER * r * r
    values = (float((s * r).max()) / 255) ** 2 * float(np.square(w / s).sum())
    weights = float((np.square(np.abs(w / s).max(-1) / 127) * (s * s * power).sum(-1)).sum())
    return (values + weights / 2) / max(float((np.square(w) * power).sum()), 1e-30)

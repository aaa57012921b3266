"""About how large the values of a graph are for inputs of ordinary size: a guess that costs no run.

Means and deviations are followed through the layers as if all elements were independent, as in the mean-field analysis
of signals in deep networks (B. Poole et al., arXiv:1606.05340). Inputs are standard normal. The guess decides whether a
look at data is worth its time; nothing is proved by it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, exp, isnan, pi, prod, sqrt
from typing import Any, NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.tensor import Array

FILTERS = 64  # of a weight, and places along each axis of a constant, that are looked at, about
BOUNDED = (ops.Sigmoid, ops.HardSigmoid, ops.Tanh, ops.Erf, ops.Softsign, ops.Sin, ops.Cos, ops.Clip, ops.LpNormalize)


class Guess(NamedTuple):
    """Mean and standard deviation of a value's elements."""

    mean: float
    deviation: float

    @property
    def size(self) -> float:
        """What few elements exceed."""
        return abs(self.mean) + 4 * self.deviation

    def times(self, other: Guess, count: float = 1.0) -> Guess:
        """Of sums of `count` products."""
        a, b = self.deviation**2, other.deviation**2
        variance = a * b + a * other.mean**2 + b * self.mean**2
        return Guess(count * self.mean * other.mean, sqrt(count * variance))


NORMAL = Guess(0.0, 1.0)


def magnitudes(graph: Graph) -> dict[Value, Guess]:
    """A guess for every float value that is computed."""
    known: dict[Value, Guess] = {}

    def of(v: Value | None) -> Guess:
        if v is None or v in known:
            return known.get(v, Guess(0.0, 0.0)) if v is not None else Guess(0.0, 0.0)
        known[v] = found = NORMAL if v.data is None else _of_constant(v.data)
        return found

    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if any(v.type.dtype.is_float for v in node.outputs):
                found = _capped(_guess(node, node.op, of))
                known.update((v, found) for v in node.outputs)
    return {v: guess for v, guess in known.items() if v.node is not None}


def _capped(guess: Guess) -> Guess:
    """Finite, so that squares of it are."""
    return Guess(*(max(-1e100, min(1e100, n)) if not isnan(n) else 0.0 for n in guess))


def _of_constant(data: Array) -> Guess:
    flat = data[tuple(slice(None, None, max(1, n // FILTERS)) for n in data.shape)]
    if not flat.size or flat.dtype.kind not in "fiub":
        return NORMAL
    return Guess(float(flat.mean(dtype=np.float64)), float(flat.std(dtype=np.float64)))


def _guess(node: Node, op: Op, of: Callable[[Value | None], Guess]) -> Guess:
    x = of(node.inputs[0]) if node.inputs else NORMAL
    if isinstance(op, ops.Conv | ops.Dense | ops.MatMul | ops.ConvTranspose):
        return _product(node, op, x, of)
    rest = [of(v) for v in node.inputs[1:]]
    if isinstance(op, ops.Add | ops.Sum | ops.Sub):
        sign = -1.0 if isinstance(op, ops.Sub) else 1.0
        mean = x.mean + sign * sum(r.mean for r in rest)
        return Guess(mean, sqrt(x.deviation**2 + sum(r.deviation**2 for r in rest)))
    if isinstance(op, ops.Mul):
        return x.times(rest[0])
    if isinstance(op, ops.Relu | ops.LeakyRelu | ops.Silu | ops.Gelu):
        return _rectified(x)
    if isinstance(op, ops.LayerNorm | ops.RmsNorm | ops.InstanceNorm | ops.GroupNorm):
        return Guess(rest[1].mean if len(rest) > 1 else 0.0, sqrt(rest[0].mean ** 2 + rest[0].deviation ** 2))
    if isinstance(op, ops.BatchNorm):
        return Guess(rest[1].mean, rest[0].size + rest[1].deviation)
    if isinstance(op, (ops.Softmax, ops.Attention, *BOUNDED)):
        return of(node.inputs[2]) if isinstance(op, ops.Attention) else Guess(0.0, 0.5)
    if isinstance(op, ops.ReduceSum | ops.ReduceSumSquare) and node.inputs[0] is not None:
        count = prod(node.inputs[0].type.dims[a] for a in op.axes) if node.inputs[0].type.is_static else 1
        return (x if isinstance(op, ops.ReduceSum) else x.times(x)).times(Guess(1.0, 0.0), count)
    return x if x.size or not rest else rest[0]


def _product(node: Node, op: Any, x: Guess, of: Callable[[Value | None], Guess]) -> Guess:
    _, w, *more = node.inputs
    bias = of(more[0]) if more else Guess(0.0, 0.0)
    assert w is not None
    if w.data is None or w.data.ndim < 2:
        inner = node.inputs[0].type.shape[-1] if node.inputs[0] is not None and node.inputs[0].type.rank else 1
        return x.times(of(w), inner if isinstance(inner, int) and isinstance(op, ops.MatMul | ops.Dense) else 1)
    rows = _filters(w.data, op)
    means = rows.sum(1, dtype=np.float64) * x.mean
    variance = float(np.square(rows, dtype=np.float64).sum(1).mean()) * x.deviation**2 + bias.deviation**2
    return Guess(float(means.mean()) + bias.mean, sqrt(variance + float(means.var())))


def _filters(w: Array, op: Any) -> Array:
    """The weights of some of the sums, a row each."""
    if isinstance(op, ops.Conv) or (isinstance(op, ops.Dense) and op.transposed):
        return w[:: max(1, w.shape[0] // FILTERS)].reshape(-1, prod(w.shape[1:]))
    if isinstance(op, ops.ConvTranspose):
        return np.moveaxis(w, 1, 0)[:: max(1, w.shape[1] // FILTERS)].reshape(-1, w.size // w.shape[1])
    columns = w[..., :: max(1, w.shape[-1] // FILTERS)]
    return np.moveaxis(columns, -2, -1).reshape(-1, w.shape[-2])


def _rectified(x: Guess) -> Guess:
    """Of the positive part of a normal variable."""
    if not x.deviation:
        return Guess(max(x.mean, 0.0), 0.0)
    t = x.mean / x.deviation
    share, density = (1 + erf(t / sqrt(2))) / 2, exp(-min(t * t, 1e3) / 2) / sqrt(2 * pi)
    mean = x.mean * share + x.deviation * density
    square = (x.mean**2 + x.deviation**2) * share + x.mean * x.deviation * density
    return Guess(mean, sqrt(max(square - mean**2, 0.0)))

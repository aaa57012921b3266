"""How large the operand of a normalisation becomes, and normalisations of a smaller multiple of it."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, inf, isfinite, log2, sqrt

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.rewrite import Builder
from compiler.spans import Spans
from passes._rescale import Peaks

TINY = 2.0**-14  # the smallest normal half: what a row of zeros is divided by


class Sizes:
    """The largest magnitude of values, found when first asked for: seen in data, or proved without."""

    def __init__(self, limit: float, margin: float, peaks: Peaks | None) -> None:
        self._limit, self._margin, self._peaks = limit, margin, peaks
        self._seen: Mapping[Value, float] | None = None
        self._spans: Spans | None = None

    def exponent(self, graph: Graph, v: Value) -> int | None:
        """How often a value is to be halved to stay below the limit, with a margin over what was seen; None if nothing
        is known of it."""
        if self._spans is None:
            self._spans = Spans(graph)
        size = self._spans[v].size
        if size > self._limit and self._peaks is not None:
            if self._seen is None:
                self._seen = self._peaks(graph)
            size = self._peak(self._seen, v) * self._margin
        if not isfinite(size):
            return 0 if _is_over_largest(v) else None
        return max(0, ceil(log2(size / self._limit))) if size else 0

    def _peak(self, seen: Mapping[Value, float], v: Value) -> float:
        """Of what was seen, or is a multiple of it."""
        if v in seen or v.node is None or not isinstance(v.node.op, ops.Mul):
            return seen.get(v, inf)
        x, factor = v.node.inputs
        if x is None or factor is None or factor.data is None or factor.data.size != 1:
            return inf
        return seen.get(x, inf) * abs(float(factor.data.item()))


def _is_over_largest(v: Value) -> bool:
    """Whether a value is what `over_largest` gives."""
    chain: list[Value | None] = [v]
    for op, place in ((ops.Div, 1), (ops.Max, 0), (ops.ReduceMax, 0), (ops.Abs, 0)):
        node = None if chain[-1] is None else chain[-1].node
        if node is None or not isinstance(node.op, op):
            return False
        chain.append(node.inputs[place])
    return v.node is not None and v.node.inputs[0] is chain[-1]


def halved(g: Builder, x: Value, exponent: int) -> Value:
    """2^-exponent * x."""
    return g.add(ops.Mul(), x, g.const(2.0**-exponent, x.type))


def over_largest(g: Builder, x: Value, axes: tuple[int, ...]) -> tuple[Value, Value]:
    """x divided by its largest magnitude along axes, and that magnitude."""
    largest = g.add(ops.ReduceMax(axes=axes, keepdims=True), g.add(ops.Abs(), x))
    safe = g.add(ops.Max(), largest, g.const(TINY, x.type))
    return g.add(ops.Div(), x, safe), safe


def divided_by_rms(g: Builder, x: Value, axes: tuple[int, ...], eps: float, exponent: int | None) -> Value:
    """x / sqrt(mean(x^2) + eps), of 2^-exponent x if there is one, else of y = x / m with m = max|x|, which gives
    y / sqrt(mean(y^2) + (sqrt(eps) / m)^2)."""
    if exponent is not None:
        y, added = halved(g, x, exponent), g.const(eps * 4.0**-exponent, x.type)
    else:
        y, largest = over_largest(g, x, axes)
        part = g.add(ops.Div(), g.const(sqrt(eps), x.type), largest)
        added = g.add(ops.Mul(), part, part)
    mean = g.add(ops.ReduceMean(axes=axes, keepdims=True), g.add(ops.Mul(), y, y))
    return g.add(ops.Div(), y, g.add(ops.Sqrt(), g.add(ops.Add(), mean, added) if eps else mean))


def by_largest(g: Builder, x: Value, norm: Node) -> Value | None:
    """A root mean square or Euclidean normalisation of x over its largest magnitude."""
    op = norm.op
    if isinstance(op, ops.LpNormalize):
        return g.add(op, over_largest(g, x, (op.axis,))[0])
    if not isinstance(op, ops.RmsNorm):
        return None
    axes, scale = op.axes(x.type.rank), norm.inputs[1]
    assert scale is not None
    after = x.type.rank - 1 - axes[-1]
    if after and scale.data is not None:
        scale = g.const(scale.data.reshape(*scale.type.dims, *[1] * after), like=scale)
    elif after:
        scale = g.add(ops.Reshape(shape=(*scale.type.shape, *[1] * after)), scale)
    return g.add(ops.Mul(), divided_by_rms(g, x, axes, op.eps, None), scale)

"""Between which numbers the elements of float values lie, whatever finite numbers the inputs hold.

Interval arithmetic over the layers in order, in double precision and widened by what 32-bit rounding may add (R. Moore,
Interval Analysis, 1966). NaN lies nowhere and is not excluded. What a layer without a rule gives may be any number.
Constants are looked at only where the other operand is bounded, so that a network of convolutions costs next to
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isinf, sqrt
from typing import Any, NamedTuple

import numpy as np

from compiler.filemap import release
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ranges import Ranges
from compiler.tensor import Array

BLOCK = 1 << 18  # elements of a constant that are looked at together
SLACK = 1e-5  # of the largest magnitude: what one layer's roundings may add
LOOKED_AT = 1 << 18  # elements of a constant up to which it is summed up
LARGEST = float(np.finfo(np.float32).max)


class Span(NamedTuple):
    """Numbers from `low` to `high`, both included; either may be infinite."""

    low: float
    high: float

    @property
    def size(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def least(self) -> float:
        """The smallest magnitude."""
        return 0.0 if self.low <= 0.0 <= self.high else min(abs(self.low), abs(self.high))

    @property
    def is_bounded(self) -> bool:
        return not (isinf(self.low) or isinf(self.high))

    def holds(self, other: Span) -> bool:
        """Whether all of another span lies in this one."""
        return self.low <= other.low and other.high <= self.high

    def joined(self, *others: Span) -> Span:
        """The smallest span around all."""
        return Span(min(self.low, *(o.low for o in others)), max(self.high, *(o.high for o in others)))

    def widened(self, by: float = 0.0) -> Span:
        """With room for rounding, and for what 32 bits turn into an infinity."""
        by += SLACK * self.size if self.is_bounded else 0.0
        low, high = self.low - by, self.high + by
        return Span(low if low >= -LARGEST else -inf, high if high <= LARGEST else inf)

    def times(self, other: Span) -> Span:
        """Of products; 0 times an infinite end counts as 0, because the ends themselves are never reached."""
        corners = [a * b if a and b else 0.0 for a in self for b in other]
        return Span(min(corners), max(corners))


ANY = Span(-inf, inf)
ZERO = Span(0.0, 0.0)
SpanRule = Callable[["Spans", Node, Any], "Span | None"]  # Any: the operation, by its class
SPAN_RULES: dict[type[Op], SpanRule] = {}


def spans(*operations: type[Op]) -> Callable[[SpanRule], SpanRule]:
    """Register how all results of operations are bounded; None: not at all."""

    def register(function: SpanRule) -> SpanRule:
        SPAN_RULES.update(dict.fromkeys(operations, function))
        return function

    return register


class Spans:
    """The spans of one graph: `spans[v]` is that of a float value, `ANY` if nothing is known.

    inputs  by name, where more is known of an input than that it is finite
    """

    def __init__(self, graph: Graph, inputs: dict[str, Span] | None = None) -> None:
        self._graph = graph
        self._integers: Ranges | None = None
        self._sums: dict[tuple[object, ...], tuple[Array, Array, Array]] = {}
        self._known: dict[Value, Span] = {v: (inputs or {}).get(v.name, ANY) for v in graph.inputs}
        for node in graph.nodes:
            if not any(v.type.dtype.is_float for v in node.outputs):
                continue
            function = SPAN_RULES.get(type(node.op))
            found = (function(self, node, node.op) if function is not None else None) or ANY
            wide = found if found is ANY else found.widened()
            for v in node.outputs:
                self._known[v] = wide

    def __getitem__(self, v: Value | None) -> Span:
        if v is None:
            return ZERO
        found = self._known.get(v)
        if found is None:
            found = self._known[v] = _of_constant(v)
        return found

    def first(self, node: Node) -> Span:
        """Of the first operand."""
        return self[node.inputs[0]]

    def all(self, node: Node) -> list[Span]:
        """Of the operands that are present."""
        return [self[v] for v in node.inputs if v is not None]

    def integers(self, v: Value) -> Span:
        """Of a value of integers or booleans."""
        if self._integers is None:
            self._integers = Ranges(self._graph)
        found = self._integers[v]
        return ANY if found is None else Span(float(found.low), float(found.high))

    def sums(self, w: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
        """Over `axes` of a constant, of the elements above 0 and of those below; once for all layers that share it."""
        key = (_address(w), w.shape, w.strides, axes)
        if key not in self._sums:
            self._sums[key] = w, _sums(np.maximum, w, axes), _sums(np.minimum, w, axes)  # w, so that it stays there
            release(w)
        return self._sums[key][1:]


def _address(array: Array) -> object:
    return array.__array_interface__["data"][0]


def _of_constant(v: Value) -> Span:
    if v.data is None or v.data.dtype.kind not in "fiub" or not v.data.size:
        return ANY
    low, high = float(v.data.min()), float(v.data.max())
    return ANY if np.isnan(low) or np.isnan(high) else Span(low, high)


def weighted(s: Spans, x: Span, w: Array, axes: tuple[int, ...], partial: bool) -> Span:
    """Of sums of elements of `x` times constants, over `axes` of `w`, all of them or, if `partial`, only some; not
    looked at in large constants, which takes as long as reading them."""
    if w.size > LOOKED_AT:
        return ANY
    low, high = (min(x.low, 0.0), max(x.high, 0.0)) if partial else x
    if not w.size:
        return ZERO
    positive, negative = s.sums(w, axes)
    rounding = SLACK * x.size * float((positive - negative).max())
    lows, highs = positive * low + negative * high, positive * high + negative * low
    return Span(float(lows.min()) - rounding, float(highs.max()) + rounding)


def _sums(limit: np.ufunc, w: Array, axes: tuple[int, ...]) -> Array:
    """Sums over `axes` of the elements above or below 0, some rows at a time."""
    rows = max(1, BLOCK * len(w) // w.size)
    parts = [limit(w[k : k + rows], 0).sum(axes, dtype=np.float64) for k in range(0, len(w), rows)]
    return np.asarray(np.sum(parts, axis=0) if 0 in axes else np.concatenate(parts))


def normalized(count: int, scale: Span, bias: Span) -> Span:
    """Of numbers with a mean square of at most 1 over `count` places, times a scale, plus a bias."""
    size = sqrt(max(count, 1)) * (1 + SLACK) * scale.size
    return Span(bias.low - size, bias.high + size)

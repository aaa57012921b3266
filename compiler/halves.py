"""What 16-bit floats do to a graph: where numbers become infinite, vanish, or lose their digits.

    risks(graph, limits) -> list[Risk]            from what is proved of every input
    risks(graph, limits, seen) -> list[Risk]      and from the values of one run

Three things are kept apart: what happens for every input (`proved`), what happened on the data (`seen`), and what
neither a proof nor the data excludes (`possible`). What a proof excludes is no risk.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from math import floor, isfinite, log2
from typing import Any, NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.record import Record
from compiler.spans import Spans
from compiler.tensor import Array

SMALLEST = 2.0**-24  # half of it is the largest number that becomes 0
NORMAL = 2.0**-14  # below it digits are lost
CANCELLED = 64.0  # how many times smaller than its terms a sum is that has lost half of its digits
LOOKED_AT = 1 << 20  # elements of a constant
NAMED = 4  # risks that a warning names
LISTED = 12  # and a report
ORDER = ("proved", "seen", "possible")
PRODUCTS = (ops.Conv, ops.ConvTranspose, ops.Dense, ops.MatMul)
SQUARES = (ops.RmsNorm, ops.ReduceL2, ops.ReduceSumSquare, ops.LpNormalize)
GUARDED = (ops.Log, ops.Sqrt, ops.Pow, ops.Div, ops.Reciprocal)
CENTRED = (ops.LayerNorm, ops.InstanceNorm, ops.GroupNorm)
SHRINKS: tuple[type[Op], ...] = (  # results are no larger than operands
    ops.Identity, ops.Reshape, ops.Transpose, ops.Slice, ops.Split, ops.Expand, ops.Tile, ops.Concat, ops.ConvertLayout,
    ops.Pad, ops.DepthToSpace, ops.SpaceToDepth, ops.Gather, ops.GatherElements, ops.GatherND, ops.Where, ops.Max,
    ops.Min, ops.Relu, ops.LeakyRelu, ops.Clip, ops.Abs, ops.Neg, ops.Sqrt, ops.MaxPool, ops.GlobalMaxPool,
    ops.AveragePool, ops.GlobalAveragePool, ops.ReduceMax, ops.ReduceMin, ops.ReduceMean,
)  # fmt: skip

ADVICE = {
    "overflow": "scale it down: --calibrate shows the passes how far",
    "accumulator": "scale it down: --calibrate shows the passes how far",
    "exp": "subtract the largest exponent first",
    "square": "scale the operand down first: --calibrate shows the passes how far",
    "log": "add more than 6e-8 first",
    "underflow": "scale it up before it is stored",
    "divisor": "add more than 6e-8 to what divides",
    "products": "scale the operands up",
    "cancellation": "compute the difference before the large term is added, or in --precision fp32",
    "slice": "cut along another axis, or scale it down",
    "softmax": "scale the probabilities before the product",
    "input": "scale the numbers before they enter the model",
    "constant": "keep constants below 65504",
    "lost constant": "it becomes 0: use at least 6e-8",
    "epsilon": "use an epsilon of at least 6e-8",
}


class Limits(Record):
    """What the numbers of a processor hold.

    largest, accumulator  of results, and of running sums of products
    product_exponent      products whose operands' exponents add up to this or less vanish
    exponential           the largest operand of exp
    sliced                the largest magnitude in a slice along the last axis
    keys                  places of a softmax from which its probabilities are small
    """

    largest: float = 65504.0
    accumulator: float = 65504.0
    product_exponent: int = -25
    exponential: float = 11.094
    sliced: float = 65504.0
    keys: int = 1024


class Risk(NamedTuple):
    """A layer, the kind of risk (a key of ADVICE), how sure it is, and the number that says so."""

    node: Node
    kind: str
    status: str
    size: float

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.kind]

    def as_json(self) -> dict[str, Any]:
        """Plain values for --json."""
        size = self.size if isfinite(self.size) else None
        return {"layer": self.where, "kind": self.kind, "status": self.status, "size": size, "advice": self.advice}

    @property
    def where(self) -> str:
        """The layer by its operation and origin."""
        return f"{self.node.op.name} at {', '.join(sorted(self.node.origin)[:2]) or self.node.outputs[0].label}"

    def __str__(self) -> str:
        size = f" ({self.size:.3g})" if isfinite(self.size) else ""
        return f"{self.where}: {self.kind} {self.status}{size}; {self.advice}"


def risks(graph: Graph, limits: Limits, seen: Mapping[Value, Array] | None = None) -> list[Risk]:
    """What is proved first, then what was seen, then what is merely possible; in the order of the layers.

    seen  values of the graph in 32 bits or more, as `compiler.probe.intermediate_values` gives them
    """
    judge = _Judge(graph, limits, seen or {})
    found: dict[tuple[Node, str], Risk] = {}
    for node in graph.nodes:
        if any(v is not None and v.type.dtype.is_float for v in (*node.inputs, *node.outputs)):
            for kind, status, size in judge.look(node):
                known = found.get((node, kind))
                if known is None or ORDER.index(status) < ORDER.index(known.status):
                    found[node, kind] = Risk(node, kind, status, size)
    return sorted(found.values(), key=lambda r: ORDER.index(r.status))


def told(found: Sequence[Risk], known_kinds: Container[str] = ()) -> list[str]:
    """Warnings: the first risks by name, the others by their number; but for those that are merely possible, and for
    kinds of which the user knows already."""
    known = [r for r in found if r.status != "possible" and r.kind not in known_kinds]
    lines = [f"16-bit floats: {risk}" for risk in known[:NAMED]]
    if len(known) > NAMED:
        lines.append(f"16-bit floats: {len(known) - NAMED} more layers at risk; --explain lists them")
    return lines


def listed(found: Sequence[Risk]) -> Iterator[str]:
    """For a report: how many risks of each certainty, and the first ones by name."""
    counts = ", ".join(f"{sum(r.status == status for r in found)} {status}" for status in ORDER)
    yield f"16-bit floats, layers at risk: {counts}"
    known = [r for r in found if r.status != "possible"]
    yield from (f"  {risk}" for risk in known[:LISTED])
    if len(known) > LISTED:
        yield f"  and {len(known) - LISTED} more"
    if len(known) < len(found):
        yield "  possible is what no bound on the inputs excludes: --calibrate shows what occurs, --json has the layers"


Finding = tuple[str, str, float]  # kind, status, size


class _Judge:
    """Looks at one layer after the other."""

    def __init__(self, graph: Graph, limits: Limits, seen: Mapping[Value, Array]) -> None:
        self.limits, self.seen = limits, seen
        self.spans = Spans(graph)
        self._peaks: dict[Value, float] = {}

    def look(self, node: Node) -> Iterator[Finding]:
        op = node.op
        yield from self._results(node)
        yield from self._constants(node)
        if isinstance(op, ops.Log | ops.Reciprocal) or (isinstance(op, ops.Div) and node.inputs[1] is not None):
            yield from self._vanishing_operand(node)
        if isinstance(op, (*SQUARES, *CENTRED)):
            limit = self.limits.largest**0.5
            yield from self._beyond("square", node.inputs[0], limit)
        eps = getattr(op, "eps", 0.0)
        if isinstance(eps, float) and 0 < eps < SMALLEST / 2:
            yield "epsilon", "proved", eps
        if isinstance(op, PRODUCTS):
            yield from self._products(node)
        if isinstance(op, ops.Add | ops.Sub):
            yield from self._cancelled(node)
        if isinstance(op, ops.Slice) and self.limits.sliced < self.limits.largest and _cuts_rows(op):
            yield from self._beyond("slice", node.inputs[0], self.limits.sliced)
        for v in node.inputs:
            if v is not None and v.node is None and v.data is None:
                yield from (f for f in self._beyond("input", v, self.limits.largest) if f[1] != "possible")

    def peak(self, v: Value | None) -> float | None:
        """The largest finite magnitude that was seen."""
        if v is None or (v not in self.seen and v.data is None):
            return None
        if v not in self._peaks:
            array = np.abs(self.seen[v] if v.data is None else v.data)
            largest = float(array.max(initial=0.0))
            self._peaks[v] = largest if isfinite(largest) else float(array[np.isfinite(array)].max(initial=0.0))
        return self._peaks[v]

    def _beyond(self, kind: str, v: Value | None, limit: float) -> Iterator[Finding]:
        """Whether the numbers of a value go beyond a limit."""
        if v is None:
            return
        span, peak = self.spans[v], self.peak(v)
        if isfinite(span.least) and span.least > limit:
            yield kind, "proved", span.least
        elif peak is not None and peak > limit:
            yield kind, "seen", peak
        elif span.size > limit:
            yield kind, "possible", span.size

    def _results(self, node: Node) -> Iterator[Finding]:
        if isinstance(node.op, SHRINKS):
            return
        kind, limit = "overflow", self.limits.largest
        if isinstance(node.op, PRODUCTS):
            kind, limit = "accumulator", self.limits.accumulator
        known = [p for p in (self.peak(v) for v in node.inputs if v is not None and v.data is None) if p is not None]
        if kind == "overflow" and max(known, default=0.0) > limit:
            return  # what follows from another overflow
        for v in node.outputs:
            if v.type.dtype.is_float:
                yield from self._beyond("exp" if isinstance(node.op, ops.Exp) else kind, v, limit)
                yield from self._small(v)

    def _small(self, v: Value) -> Iterator[Finding]:
        peak = self.peak(v)
        if peak is not None and 0 < peak < NORMAL and not self._is_added(v):
            yield "underflow", "seen", peak

    def _is_added(self, v: Value) -> bool:
        """Whether a value is added to larger numbers alone: the steps below the smallest of full accuracy are its own,
        so that sums lose no more than they do anyway."""
        sums = [self.seen.get(n.outputs[0]) if isinstance(n.op, ops.Add | ops.Sub) else None for n in v.users]
        return bool(sums) and not v.n_out and all(s is not None and np.abs(s).min(initial=1.0) >= NORMAL for s in sums)

    def _constants(self, node: Node) -> Iterator[Finding]:
        """Those beyond the largest number, and those that become 0 where that matters: as a factor, or as what keeps
        a logarithm, root or divisor from 0."""
        for v in node.inputs:
            if v is None or v.data is None or not v.type.dtype.is_float or v.data.size > LOOKED_AT:
                continue
            peak = self.peak(v) or 0.0
            factor = isinstance(node.op, ops.Mul | ops.Div)
            guard = isinstance(node.op, ops.Add) and any(isinstance(u.op, GUARDED) for u in node.output.users)
            if peak > self.limits.largest:
                yield "constant", "proved", peak
            elif 0 < peak < SMALLEST / 2 and (factor or guard):
                yield "lost constant", "proved", peak

    def _vanishing_operand(self, node: Node) -> Iterator[Finding]:
        """What is divided by, or of which the logarithm is taken, and becomes 0 though it is not."""
        kind, v = ("divisor", node.inputs[1]) if isinstance(node.op, ops.Div) else ("divisor", node.inputs[0])
        kind = "log" if isinstance(node.op, ops.Log) else kind
        if v is None or v.data is not None or not v.type.dtype.is_float or self.spans[v].least >= SMALLEST / 2:
            return
        array = self.seen.get(v)
        if array is not None:
            small = np.abs(array[(array != 0) & (np.abs(array) <= SMALLEST / 2)])
            if small.size:
                yield kind, "seen", float(small.min())
                return
        yield kind, "possible", self.spans[v].least

    def _products(self, node: Node) -> Iterator[Finding]:
        x, w = node.inputs[:2]
        if w is not None and w.node is not None and isinstance(w.node.op, ops.Softmax):
            x, w = w, x
        if x is not None and x.node is not None and isinstance(x.node.op, ops.Softmax):
            places = x.type.shape[x.node.op.axis]
            if isinstance(places, int) and places >= self.limits.keys:
                yield "softmax", "possible", 1 / places
        a = self.peak(x)
        b = self.peak(w) if a else None
        if a and b and floor(log2(a)) + floor(log2(b)) <= self.limits.product_exponent:
            yield "products", "seen", a * b

    def _cancelled(self, node: Node) -> Iterator[Finding]:
        total = self.seen.get(node.outputs[0])
        terms = [self.seen.get(v) if v is None or v.data is None else v.data for v in node.inputs if v is not None]
        if total is None or not total.size or len(terms) < 2 or any(t is None for t in terms):
            return
        size = max(_rms(t) for t in terms if t is not None)
        rest = _rms(total)
        if 0 < rest * CANCELLED < size:
            yield "cancellation", "seen", size / rest


def _rms(a: Array) -> float:
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.mean(np.square(a, dtype=np.float64)))) if a.size else 0.0


def _cuts_rows(op: ops.Slice) -> bool:
    """Whether a slice along the last axis begins behind its first element."""
    return bool(op.starts) and op.starts[-1] != 0

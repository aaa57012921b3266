"""What the causes look at: a layer's exact numbers on a few rows, and what rounding makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from math import log10

import numpy as np

from compiler.calibrate.trial import EXACT
from compiler.doctor.layers import Layer, is_carried
from compiler.doctor.measure import Feed, Measured, Numbers, copied
from compiler.graph import Graph, Node, Value
from compiler.onnx_export import export_bytes
from compiler.ops.conv import Convolution
from compiler.oracle import open_session
from compiler.quantize import asymmetric, dequantized, limits, quantized, represented, symmetric
from compiler.simulate import simulated
from compiler.tensor import I8, Array, QuantParams

HELD = 256 << 20  # bytes of intermediate numbers that are held for the causes
SAMPLE = 1 << 18  # numbers of a value that are rounded anew for an estimate
STILL = 1e-6  # times the deviation of the loudest place: what does not deviate, but for errors of floats
QUIET = 0.1  # share of the places along an axis
SHOWN = 40  # letters of a name in words
SAME_SCALE = frozenset(("average_pool", "resize"))  # besides what moves: no scale of its own
Range = tuple[float, float]


class Evidence:
    """Of one layer. `exact` holds the numbers of its operands and results, and of those in its group, the rows one
    behind the other along a new first axis; `rounded` those of its results where all layers round."""

    def __init__(self, layer: Layer, number: int, measured: Measured, exact: Numbers, rounded: Numbers) -> None:
        self.layer = layer
        self.measured = measured
        self.number = number
        self.numbers = exact
        self.rounded = rounded.get(layer.result)

    # -- the layer -------------------------------------------------------------------------------------------

    @property
    def op(self) -> str:
        return self.layer.op

    @cached_property
    def params(self) -> QuantParams | None:
        """Of the result; None if it is no integer."""
        return self.layer.params

    def of(self, v: Value) -> Array | None:
        """The numbers of a value or constant, if they are known."""
        return v.data if v.data is not None else self.numbers.get(v)

    @cached_property
    def result(self) -> Array:
        return self.numbers[self.layer.result]

    @cached_property
    def range(self) -> Range:
        """The smallest and the largest number of the result."""
        return ends(self.result)

    @cached_property
    def operands(self) -> list[tuple[Value, Array]]:
        """Operands of floats that are computed."""
        return [(v, self.numbers[v]) for v in self.layer.operands if v.data is None and v in self.numbers]

    def readers(self) -> Iterator[tuple[Node, Value]]:
        """Layers that compute with the result, perhaps moved about before, and which value they read."""
        stack = [self.layer.result]
        while stack:
            v = stack.pop()
            for user in v.users:
                if is_carried(user):
                    stack += [o for o in user.outputs if o.type.dtype.is_float]
                else:
                    yield user, v

    @cached_property
    def group(self) -> list[Node]:
        """Layers that tie the result to the scale of other values."""
        return tied(self.layer.result)

    # -- what rounding does ----------------------------------------------------------------------------------

    @cached_property
    def sample(self) -> Array:
        """Numbers of the result, spread evenly, and both ends."""
        return sampled(self.result)

    @cached_property
    def codes(self) -> int:
        """How many integers the result uses, of 256 or 65536."""
        if self.params is None or self.params.axis is not None:
            return 0
        return len(np.unique(quantized(self.sample, self.params)))

    def gain(self, better: QuantParams, numbers: Array | None = None) -> float:
        """dB by which other parameters lower the noise of rounding the result."""
        if self.params is None:
            return 0.0
        x = self.sample if numbers is None else numbers
        return ratio(noise(x, self.params), noise(x, better))

    def fitted(self, span: Range) -> QuantParams:
        """Parameters of the result's kind for a range."""
        kind = I8 if self.params is None else self.params.dtype
        return asymmetric(*span) if kind is I8 else symmetric([max(map(abs, span))], None, kind)

    @cached_property
    def width(self) -> float:
        """How many times as wide as the numbers of the result the range of its integers is."""
        span = max(self.range[1], 0.0) - min(self.range[0], 0.0)
        if self.params is None or self.params.axis is not None or span == 0.0:
            return 1.0
        low, high = represented(self.params)
        return (high - low) / span

    @cached_property
    def outside(self) -> float:
        """Share of the numbers of the result that its integers cannot reach."""
        if self.params is None or self.params.axis is not None:
            return 0.0
        return float(np.mean(self._clipped))

    @cached_property
    def _clipped(self) -> Array:
        assert self.params is not None
        low, high = represented(self.params)
        step = self.params.scale[0]
        return np.asarray((self.sample < low - step) | (self.sample > high + step))

    @cached_property
    def clipping(self) -> float:
        """Share of the noise of rounding that saturation makes."""
        if self.params is None or self.params.axis is not None:
            return 0.0
        total = noise(self.sample, self.params)
        return noise(self.sample[self._clipped], self.params) / total if total else 0.0

    @cached_property
    def weight_share(self) -> float:
        """Share of the layer's own noise that does not come from rounding its result: the constants'."""
        if not self.layer.constants:
            return 0.0
        alone = self.measured.alone[self.number]
        if self.params is None:
            return 1.0
        own = noise(self.sample, self.params) / max(float(np.square(self.sample).sum()), 1e-300)
        seen = alone.noise / max(alone.signal, 1e-300)
        return max(0.0, 1.0 - own / seen) if seen else 0.0

    @cached_property
    def channels(self) -> Array | None:
        """Largest magnitude at each place along the axis of channels, of the result."""
        found = self.channel_axis
        return None if found is None else peaks(self.result, found)

    @cached_property
    def channel_axis(self) -> int | None:
        """Of the rows in `result`: axis 1 of a value that convolutions or images have, else the last; of an input the
        one along which deviations differ most."""
        rank = self.result.ndim - 1
        if rank < 2:
            return None
        if self.op == "input":
            return max(range(2, rank + 1), key=lambda axis: contrast(self.result, axis))
        near = [n.op for n in (self.layer.node, *self.layer.result.users) if n is not None]
        return 2 if rank == 4 or any(isinstance(op, Convolution) for op in near) else rank


def tied(v: Value) -> list[Node]:
    """The layers that move a value, or others at its scale, without another scale, nearest first."""
    found: dict[Node, None] = {}
    stack, seen = [v], {v}
    while stack:
        at = stack.pop(0)
        for node in (*([at.node] if at.node else []), *at.users):
            if node in found or not (is_carried(node) or (node.op.name in SAME_SCALE and _is_one_scale(node))):
                continue
            found[node] = None
            near = [o for o in (*node.inputs, *node.outputs) if o is not None and o.type.quant == v.type.quant]
            stack += [o for o in near if o not in seen]
            seen.update(near)
    return list(found)


def _is_one_scale(node: Node) -> bool:
    x = node.inputs[0]
    return x is not None and x.type.quant == node.outputs[0].type.quant


def collect(
    graph: Graph, layers: Sequence[Layer], feeds: Sequence[Feed], originals: Numbers
) -> tuple[Numbers, Numbers]:
    """The exact and the rounded numbers around these layers, of as many rows as HELD allows."""
    results = [v for layer in layers for v in layer.results]
    near = {v for layer in layers for v in (*layer.operands, *layer.results) if v.data is None}
    for layer in layers:
        near |= {o for n, _ in _readers(layer) for o in n.outputs}
        near |= {o for n in tied(layer.result) for o in (*n.inputs, *n.outputs) if o is not None and o.data is None}
    wanted = [v for v in near if v.type.dtype.is_float]
    size = 1 + sum(v.type.nbytes for v in (*wanted, *results))
    rows = feeds[: max(1, HELD // size)]
    twin = graph.clone()
    before = [*graph.inputs, *(v for n in graph.nodes for v in n.outputs)]
    after = [*twin.inputs, *(v for n in twin.nodes for v in n.outputs)]
    where = dict(zip(before, after, strict=True))
    twin.set_outputs([where[v] for v in results], [f"out{i}" for i in range(len(results))])
    return _run(graph, wanted, rows, originals), _stacked(simulated(twin).graph, results, rows)


def _readers(layer: Layer) -> Iterator[tuple[Node, Value]]:
    return ((n, v) for v in layer.results for n in v.users)


def _run(graph: Graph, values: Sequence[Value], feeds: Sequence[Feed], originals: Numbers) -> Numbers:
    inputs = [v for v in values if v.node is None]
    found: dict[Value, Array] = {v: np.stack([np.asarray(f[v.name]) for f in feeds]) for v in inputs}
    computed = [v for v in values if v.node is not None]
    exact = Graph(graph.name)
    where = copied(exact, graph, originals)
    exact.set_outputs([where[v] for v in computed], [f"out{i}" for i in range(len(computed))])
    found.update(_stacked(exact, computed, feeds))
    return found


def _stacked(cut: Graph, values: Sequence[Value], feeds: Sequence[Feed]) -> Numbers:
    if not values:
        return {}
    session = open_session(export_bytes(cut))
    names = [f"out{i}" for i in range(len(values))]
    rows = [session.run(names, {n: f[n] for n in session.inputs}) for f in feeds]
    return {v: np.stack([row[i] for row in rows]) for i, v in enumerate(values)}


# -- numbers ---------------------------------------------------------------------------------------------------------


def noise(x: Array, params: QuantParams) -> float:
    """Sum of the squared differences that rounding makes."""
    return float(np.square(dequantized(quantized(x, params), params).astype(np.float64) - x).sum())


def ratio(before: float, after: float) -> float:
    """dB between two noises."""
    if before == after:
        return 0.0
    return EXACT if after == 0.0 else min(10 * log10(max(before, 1e-300) / after), EXACT)


def ends(x: Array) -> Range:
    """The smallest and the largest number, of those that are finite."""
    kept = x[np.isfinite(x)]
    return (float(kept.min()), float(kept.max())) if kept.size else (0.0, 0.0)


def peaks(x: Array, axis: int) -> Array:
    """The largest magnitude at each place along an axis."""
    return np.asarray(np.abs(x).max(tuple(i for i in range(x.ndim) if i != axis), initial=0.0))


def deviations(x: Array, axis: int) -> Array:
    """The standard deviation at each place along an axis."""
    return np.asarray(x.std(tuple(i for i in range(x.ndim) if i != axis), dtype=np.float64))


def contrast(x: Array, axis: int) -> float:
    """How many times as much the places along an axis deviate at most as the quietest tenth of them."""
    found = deviations(x, axis)
    live = found[found > STILL * found.max(initial=0.0)]
    return float(live.max() / np.quantile(live, QUIET)) if len(live) else 1.0


def called(v: Value) -> str:
    """The name of a value, cut to its end."""
    return v.label if len(v.label) <= SHOWN else "..." + v.label[-SHOWN:]


def rms(x: Array) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else 0.0


def sampled(x: Array) -> Array:
    """At most about SAMPLE finite numbers, the two at the ends among them."""
    flat = x.reshape(-1)
    flat = flat[np.isfinite(flat)]
    if flat.size <= SAMPLE:
        return flat
    return np.concatenate([flat[:: -(-flat.size // SAMPLE)], [flat.min(), flat.max()]])


def code_count(params: QuantParams) -> int:
    """How many integers there are."""
    low, high = limits(params.dtype)
    return high - low + 1

"""How much noise each layer adds: alone, with all before it, and at the outputs.

Three graphs of floats, each one session, are run on a few rows, one at a time:

beside    the exact graph, and beside every layer a rounded copy of it that reads exact numbers
all       everything rounded
switched  every layer exact or rounded, as an input of its own says: one run for each layer tells what its rounding
          alone does to the outputs; an inverse root of what rounds to 0 is bounded, as integers bound it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import log10

import numpy as np

from compiler.calibrate.trial import EXACT, SILENT
from compiler.doctor.layers import Layer
from compiler.graph import Graph, Node, Value
from compiler.onnx_export import export_bytes
from compiler.ops.activation import Clip
from compiler.ops.elementwise import Identity, Where
from compiler.oracle import Session, open_session, run_session
from compiler.quantize import represented
from compiler.simulate import simulated
from compiler.tensor import BOOL, I32, I64, Array, TensorType

ROWS = 8
WORK = 5e10  # multiply-accumulates that all runs of the switched graph may take
STEEP = frozenset(
    ("div", "exp", "log", "pow", "reciprocal")
)  # whose results may leave all bounds near 0 or far from it
DEAFENING = 10.0 ** (-SILENT / 10)  # times the signal: as much noise as counts
TOUCH = 200  # multiply-accumulates that take the time of making one element
Feed = Mapping[str, Array]
Numbers = Mapping[Value, Array]


class Power:
    """Sums of squares of exact numbers and of the differences from them."""

    def __init__(self) -> None:
        self.signal = self.noise = 0.0

    def add(self, exact: Array, given: Array) -> None:
        """What is not finite in `exact` does not count."""
        with np.errstate(all="ignore"):
            finite = np.isfinite(exact)
            kept = np.where(finite, exact, 0).astype(np.float64)
            difference = np.where(finite, given - kept, 0)
            self.signal += float(np.square(kept).sum())
            self.noise += float(np.square(difference).sum())

    @property
    def db(self) -> float:
        """Signal-to-noise ratio, as `trial.snr` has it."""
        return decibels(self.signal, self.noise)


def decibels(signal: float, noise: float) -> float:
    """10 log10 of the ratio, from SILENT to EXACT."""
    if noise == 0.0:
        return EXACT
    if signal == 0.0 or not np.isfinite(noise):
        return SILENT
    return min(max(10 * log10(signal / noise), SILENT), EXACT)


class Measured:
    """Noise of the layers, in their order.

    alone        with exact operands
    accumulated  with all before it rounded
    share        of the noise at the outputs, relative to their signals and added up; None where it was not measured
    outputs      noise of each output, by name, with all layers rounded
    """

    def __init__(self, layers: Sequence[Layer], outputs: Iterable[str]) -> None:
        self.alone = [Power() for _ in layers]
        self.accumulated = [Power() for _ in layers]
        self.share: list[float | None] = [None] * len(layers)
        self.outputs = {name: Power() for name in outputs}


def measure(graph: Graph, layers: Sequence[Layer], feeds: Sequence[Feed], originals: Numbers) -> Measured:
    """Run an annotated graph on the first ROWS of the feeds. `originals` are constants as they were before they were
    fitted to rounding: what is exact has those."""
    found = Measured(layers, (n for n, v in zip(graph.output_names, graph.outputs, strict=True) if _is_float(v)))
    beside = _session(*_beside(graph, layers, originals))
    everything = _session(*_all(graph, layers))
    for feed in feeds[:ROWS]:
        exact, rounded = run_session(beside, feed), run_session(everything, feed)
        for i, layer in enumerate(layers):
            for j in range(len(layer.results)):
                found.alone[i].add(exact[f"exact{i}_{j}"], exact[f"alone{i}_{j}"])
                found.accumulated[i].add(exact[f"exact{i}_{j}"], rounded[f"exact{i}_{j}"])
        for name, power in found.outputs.items():
            power.add(exact[f"of {name}"], rounded[f"of {name}"])
    _share(graph, layers, feeds[:ROWS], found, originals)
    return found


def _share(graph: Graph, layers: Sequence[Layer], feeds: Sequence[Feed], found: Measured, originals: Numbers) -> None:
    """Round one layer at a time, the noisiest first and as many as WORK allows, on as many rows as it allows."""
    cost = graph_cost(graph)
    chosen = sorted(range(len(layers)), key=lambda i: found.alone[i].db)[: max(1, int(WORK / cost))]
    rows = min(len(feeds), max(1, int(WORK / (cost * max(1, len(chosen))))))
    if not chosen or not found.outputs:
        return
    session = _session(*_switched(graph, [layers[i] for i in chosen], originals))
    names = [f"of {name}" for name in found.outputs]
    noise, signal = np.zeros((len(chosen), len(names))), np.zeros(len(names))
    for feed in feeds[:rows]:
        off = {f"switch{k}": np.array(False) for k in range(len(chosen))}
        exact = run_session(session, {**feed, **off}, names)
        for k in range(len(chosen)):
            results = run_session(session, {**feed, **off, f"switch{k}": np.array(True)}, names)
            for j, name in enumerate(names):
                power = Power()
                power.add(exact[name], results[name])
                noise[k, j] += power.noise
                signal[j] += power.signal / len(chosen)
    heard = signal > 0
    damage = np.minimum(np.nan_to_num(noise[:, heard] / signal[heard], nan=DEAFENING), DEAFENING).sum(1)
    for k, i in enumerate(chosen):
        found.share[i] = float(damage[k] / damage.sum()) if damage.any() else 0.0


def graph_cost(graph: Graph) -> float:
    """Multiply-accumulates of a run, and what else takes as long."""
    return 1.0 + sum(n.macs + TOUCH * sum(v.type.size for v in n.outputs) for n in graph.nodes)


def _is_float(v: Value) -> bool:
    return v.type.dtype.is_float and v.data is None


def _session(graph: Graph, outputs: Mapping[str, Value]) -> Session:
    graph.set_outputs(list(outputs.values()), list(outputs))
    return open_session(export_bytes(simulated(graph).graph))


def _all(graph: Graph, layers: Sequence[Layer]) -> tuple[Graph, dict[str, Value]]:
    twin = graph.clone()
    before = [*graph.inputs, *(v for n in graph.nodes for v in n.outputs)]
    after = [*twin.inputs, *(v for n in twin.nodes for v in n.outputs)]
    where = dict(zip(before, after, strict=True))
    return twin, _named(graph, layers, where)


def _beside(graph: Graph, layers: Sequence[Layer], originals: Numbers) -> tuple[Graph, dict[str, Value]]:
    made = Graph(graph.name)
    where = copied(made, graph, originals)
    outputs = _named(graph, layers, where)
    for i, layer in enumerate(layers):
        inside = dict(where)
        inside.update((v, _constant(made, v, originals)) for v in layer.constants)
        if not layer.nodes:
            inside[layer.result] = _rounded(made, layer.result, where[layer.result])
        for node in layer.nodes:
            for v, copy in zip(node.outputs, _added(made, node, inside), strict=True):
                copy.type = copy.type._replace(quant=v.type.quant)
                inside[v] = copy
        outputs.update((f"alone{i}_{j}", inside[v]) for j, v in enumerate(layer.results))
    return made, outputs


def _switched(graph: Graph, layers: Sequence[Layer], originals: Numbers) -> tuple[Graph, dict[str, Value]]:
    switches: dict[Value, Value] = {}
    made = Graph(graph.name)
    for k, layer in enumerate(layers):
        switch = made.add_input(TensorType(BOOL, ()), f"switch{k}")
        inner = (v for n in layer.nodes for v in n.outputs)
        switches.update((v, switch) for v in (*layer.constants, *layer.results, *inner))

    def choose(v: Value, exact: Value) -> Value:
        if v not in switches or v.type.quant is None:
            return exact
        if v.node is not None and v.node.op.name in STEEP and v.type.quant.axis is None:
            low, high = represented(v.type.quant)
            (exact,) = made.add(Clip(low=low, high=high), exact)
        rounded = _rounded(made, v, exact) if v.data is None else _constant(made, v, originals)
        return made.add(Where(), switches[v], rounded, exact)[0]

    return made, _named(graph, (), copied(made, graph, originals, choose))


def same(_: Value, exact: Value) -> Value:
    """The exact copy itself."""
    return exact


def copied(
    made: Graph, graph: Graph, originals: Numbers, choose: Callable[[Value, Value], Value] = same
) -> dict[Value, Value]:
    """Put the graph without annotations into `made`; what stands for each value, `choose` says, given the value and its
    exact copy."""
    where: dict[Value, Value] = {}
    for v in graph.inputs:
        where[v] = choose(v, made.add_input(v.type._replace(quant=None), v.name))
    for v in graph.constants:
        assert v.data is not None
        where[v] = choose(v, made.const(originals.get(v, v.data), v.name))
    for node in graph.nodes:
        for v, copy in zip(node.outputs, _added(made, node, where), strict=True):
            where[v] = choose(v, copy)
    return where


def _added(made: Graph, node: Node, where: Mapping[Value, Value]) -> tuple[Value, ...]:
    return made.add(node.op, *(None if v is None else where[v] for v in node.inputs))


def _constant(made: Graph, v: Value, originals: Numbers) -> Value:
    """A rounded constant; of a bias the original, as one that was fitted makes up for other layers too."""
    assert v.data is not None and v.type.quant is not None
    is_bias = v.type.quant.dtype in (I32, I64)
    copy = made.const(originals.get(v, v.data) if is_bias else v.data, v.name)
    copy.type = v.type
    return copy


def _rounded(made: Graph, v: Value, exact: Value) -> Value:
    (copy,) = made.add(Identity(), exact)
    copy.type = copy.type._replace(quant=v.type.quant)
    return copy


def _named(graph: Graph, layers: Sequence[Layer], where: Mapping[Value, Value]) -> dict[str, Value]:
    """The outputs of floats, and the results of the layers, by the names under which they are read."""
    named = zip(graph.output_names, graph.outputs, strict=True)
    outputs = {f"of {name}": where[v] for name, v in named if _is_float(v)}
    for i, layer in enumerate(layers):
        outputs.update((f"exact{i}_{j}", where[v]) for j, v in enumerate(layer.results))
    return outputs

"""A judge on seeded rows, and chains of layers, for the tests of the passes that repair what rounding costs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler import ops
from compiler.calibrate.fitting import Fitting
from compiler.calibrate.trial import Trial
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.pass_base import Pass
from compiler.tensor import Array
from passes._repair import Judge
from passes.annotate_int8 import AnnotateInt8
from targets.tflite.int8_rules import scheme
from tests.passes.composed import Net, Record, Term

ACTIVATIONS = ("none", "relu", "leaky", "prelu", "relu6", "clip0")


def rows_of(graph: Graph, count: int, seed: int = 0, mean: float = 0.0) -> list[Mapping[str, Array]]:
    """Normal numbers for every input."""
    rng = np.random.default_rng(seed)
    return [
        {v.name: rng.normal(mean, 1.0, v.type.dims).astype(v.type.dtype.numpy) for v in graph.inputs}
        for _ in range(count)
    ]


def judge_of(graph: Graph, count: int = 8, mean: float = 0.0) -> Judge:
    """On seeded rows for the trial, and others to fit to."""
    trial, rows = Trial(rows_of(graph, count, 0, mean)), Fitting(rows_of(graph, count, 1, mean))
    return Judge(scheme(), lambda _: trial, lambda _: rows)


class Sceptic(Judge):
    """Finds every change of a graph half a decibel worse than the graph."""

    def __init__(self, graph: Graph) -> None:
        judge = judge_of(graph)
        super().__init__(judge.scheme, judge.trial, judge.rows)
        self._data = [c.data for c in graph.constants]

    def scores(self, graph: Graph) -> list[float]:
        """30 dB for the graph as it was."""
        found = [c.data for c in graph.constants]
        same = len(found) == len(self._data) and all(a is b for a, b in zip(found, self._data, strict=True))
        return [30.0 if same else 29.5]


def declined(p: Pass, graph: Graph) -> str:
    """The reason for which a pass left a graph as it was."""
    data, text = [c.data for c in graph.constants], [repr(n) for n in graph.nodes]
    record = Record()
    assert p.run(graph, record) == 0
    assert record.rules == []
    assert all(c.data is d for c, d in zip(graph.constants, data, strict=True))
    assert [repr(n) for n in graph.nodes] == text
    return record.skips[0]


def annotated(graph: Graph, judge: Judge) -> Graph:
    """The graph with the ranges of the trial."""
    judge.annotates(graph)
    AnnotateInt8(scheme=scheme(), calibrate=judge.trial(graph).ranges).run(graph, Record())
    return graph


def run(p: Pass, graph: Graph) -> Record:
    """Run a pass, after which the graph is to be valid, and to give the outputs that it gave."""
    record = Record()
    assert p.run(graph, record) == len(record.rules)
    graph.verify()
    return record


def distance_db(a: Graph, b: Graph, seed: int = 5) -> float:
    """How far the outputs of two graphs are from each other."""
    feed = rows_of(a, 1, seed)[0]
    one, two = evaluate(a, feed), evaluate(b, feed)
    signal = sum(float(np.square(one[n].astype(np.float64)).sum()) for n in one)
    noise = sum(float(np.square(one[n].astype(np.float64) - two[n]).sum()) for n in one)
    return float(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30)))


def activate(x: Term, kind: str, rng: np.random.Generator) -> Term:
    """An activation of one of the ACTIVATIONS."""
    if kind == "prelu":
        return x.net(ops.PRelu(), x, rng.uniform(0, 0.5, (x.value.type.dims[1], *[1] * (x.value.type.rank - 2))))
    made = {
        "relu": ops.Relu(),
        "leaky": ops.LeakyRelu(alpha=0.1),
        "relu6": ops.Clip(low=0.0, high=6.0),
        "clip0": ops.Clip(low=0.0),
    }
    return x if kind == "none" else x.net(made[kind], x)


def convolution(
    x: Term,
    filters: int,
    rng: np.random.Generator,
    *,
    kernel: int = 3,
    groups: int = 1,
    pad: int = 1,
    bias: bool = True,
) -> Term:
    """A convolution of images, whose channels reach unequally far."""
    op = ops.Conv(strides=(1, 1), pads=(pad,) * 4, dilations=(1, 1), groups=groups)
    w = rng.normal(size=(filters, x.value.type.dims[1] // groups, kernel, kernel))
    spread = np.exp(rng.normal(size=filters))
    w *= spread[:, None, None, None] / np.sqrt(w[0].size)
    return x.net(op, x, w, rng.normal(size=filters) * spread if bias else None)


def chain(seed: int) -> Graph:
    """A random network: convolutions of all kinds, activations, pools, sums and concatenations, and a dense layer."""
    rng = np.random.default_rng(seed)
    net = Net()
    x = net.input(1, 4, 8, 8)
    for _ in range(int(rng.integers(2, 5))):
        channels = x.value.type.dims[1]
        kind = rng.choice(["conv", "grouped", "depthwise", "point", "residual", "concat"])
        groups = {"grouped": 2, "depthwise": channels}.get(str(kind), 1)
        size = 1 if kind == "point" else 3
        filters = channels if kind in ("depthwise", "residual") else int(rng.choice([4, 6, 8]))
        free = kind not in ("residual", "concat") and size == 3 and x.value.type.dims[2] > 4
        pad = int(rng.integers(0, 2)) if free else size // 2
        y = convolution(x, filters, rng, kernel=size, groups=groups, pad=pad, bias=bool(rng.random() < 0.7))
        y = activate(y, str(rng.choice(ACTIVATIONS)), rng)
        y = y + x if kind == "residual" else net(ops.Concat(axis=1), x, y) if kind == "concat" else y
        x = _pooled(y, rng)
    return net.returns(_head(x, rng))


def _pooled(x: Term, rng: np.random.Generator) -> Term:
    side = x.value.type.dims[2]
    kind = rng.choice(["none", "max", "average", "pad"]) if side > 4 else "none"
    if kind == "max":
        return x.net(ops.MaxPool(kernel=(2, 2), strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1)), x)
    if kind == "average":
        return x.net(ops.AveragePool(kernel=(2, 2), strides=(1, 1), pads=(1, 1, 0, 0), dilations=(1, 1)), x)
    return x.net(ops.Pad(pads=(0, 0, 1, 0, 0, 0, 0, 1)), x) if kind == "pad" else x


def _head(x: Term, rng: np.random.Generator) -> Term:
    if rng.random() < 0.5:
        x = x.net(ops.GlobalAveragePool(), x)
    size = x.value.type.size
    flat = x.net(ops.Reshape(shape=(1, size)), x)
    hidden = flat.net(ops.Dense(), flat, rng.normal(size=(size, 6)) / np.sqrt(size), rng.normal(size=6))
    hidden = hidden.net(ops.Relu(), hidden)
    return hidden.net(ops.Dense(transposed=True), hidden, rng.normal(size=(3, 6)), rng.normal(size=3))

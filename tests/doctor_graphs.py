"""Small annotated graphs, and rows for them, that the doctor examines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler.calibrate.trial import Trial
from compiler.doctor.examine import examine
from compiler.doctor.record import Diagnosis, Patient
from compiler.graph import Graph, Value
from compiler.ops.activation import Sigmoid
from compiler.ops.conv import Conv
from compiler.ops.elementwise import Add
from compiler.ops.matmul import Dense
from compiler.ops.reduce import ReduceMean
from compiler.tensor import F32, Array, TensorType
from passes._int8_weights import annotate_weights
from passes.annotate_int8 import annotated
from targets.tflite.int8_rules import scheme

RNG = np.random.default_rng(5)
SEEDED = RNG.bit_generator.state
ROWS = 24
Make = Callable[[Graph, Value], Value]


def normal(*shape: int, scale: float = 1.0) -> Array:
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


def uniform(*shape: int, low: float = -1.0, high: float = 1.0) -> Array:
    return RNG.uniform(low, high, shape).astype(np.float32)


def quantized_graph(make: Make, rows: Array, saturate: bool = False) -> tuple[Graph, Trial]:
    """The graph of one input that `make` builds, annotated as for TFLite by the smallest and largest numbers."""
    RNG.bit_generator.state = SEEDED  # whatever was built before
    graph = Graph()
    x = graph.add_input(TensorType(F32, (1, *rows.shape[1:])), "x")
    graph.set_outputs([make(graph, x)], ["y"])
    trial = Trial([{"x": row[None]} for row in rows])
    annotated(graph, trial.ranges(graph), scheme(), saturate)
    annotate_weights(graph, scheme())
    return graph, trial


def diagnosis(make: Make, rows: Array) -> Diagnosis:
    return examine(*quantized_graph(make, rows))


def causes(p: Patient) -> list[str]:
    return [f.cause for f in p.findings]


def all_causes(d: Diagnosis) -> set[str]:
    return {c for p in d.layers for c in causes(p)}


def number(graph: Graph, x: float) -> Value:
    return graph.const(np.array(x, np.float32))


def dense(graph: Graph, x: Value, columns: int = 8, scale: float = 1.0, w: Array | None = None) -> Value:
    """A dense layer, of random weights if none are given."""
    rows = x.type.dims[-1]
    weights = normal(rows, columns, scale=scale / np.sqrt(rows)) if w is None else w
    (y,) = graph.add(Dense(), x, graph.const(weights), names=["dense"])
    return y


def conv(graph: Graph, x: Value, w: Array, bias: Array | None = None, groups: int = 1) -> Value:
    pads = (w.shape[2] // 2,) * 4
    op = Conv(strides=(1, 1), pads=pads, dilations=(1, 1), groups=groups)
    operands = [x, graph.const(w), *([] if bias is None else [graph.const(bias)])]
    return graph.add(op, *operands, names=["conv"])[0]


def gated(offset: float) -> Make:
    def make(graph: Graph, x: Value) -> Value:
        (y,) = graph.add(Add(), dense(graph, x), number(graph, offset))
        return graph.add(Sigmoid(), y, names=["gate"])[0]

    return make


def through(graph: Graph, x: Value) -> Value:
    return dense(graph, x)


def shifted(by: float) -> tuple[Graph, Trial, Graph]:
    """A mean of 400 numbers whose weights were fitted wrongly: their bias is off."""

    def make(graph: Graph, x: Value) -> Value:
        y = conv(graph, x, normal(4, 2, 1, 1), np.zeros(4, np.float32))
        return graph.add(ReduceMean(axes=(2, 3)), y)[0]

    graph, trial = quantized_graph(make, uniform(ROWS, 2, 20, 20))
    floats = graph.clone()
    node = next(n for n in graph.nodes if n.op.name == "conv")
    bias = node.inputs[2]
    assert bias is not None
    moved = graph.const(np.full(4, by, np.float32))
    moved.type = bias.type
    graph.set_operand(node, 2, moved)
    return graph, trial, floats


IMAGES, VECTORS = uniform(ROWS, 2, 8, 8), uniform(ROWS, 64)

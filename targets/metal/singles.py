"""Doubles, which the Metal Shading Language lacks, as floats."""

from __future__ import annotations

import numpy as np

from compiler.graph import Graph, Value
from compiler.op import Op
from compiler.tensor import F32, F64, TensorType


def singles(graph: Graph) -> Graph:
    """The graph with every float of 64 bits in 32, inputs and outputs too; itself if it has none. ShapeError if a layer
    takes no floats of 32 bits."""
    values = [*graph.inputs, *graph.constants, *(v for node in graph.nodes for v in node.outputs)]
    if all(v.type.dtype is not F64 for v in values):
        return graph
    made = Graph(graph.name)
    made.metadata = dict(graph.metadata)
    known: dict[Value, Value] = {v: made.add_input(_narrowed(v.type), v.name) for v in graph.inputs}
    for c in graph.constants:
        known[c] = _constant(made, c)
    for node in graph.nodes:
        names = [v.name for v in node.outputs]
        given = (None if v is None else known[v] for v in node.inputs)
        results = made.add(_of_singles(node.op), *given, origin=node.origin, names=names)
        known.update(zip(node.outputs, results, strict=True))
    made.set_outputs([known[v] for v in graph.outputs], graph.output_names)
    return made


def _narrowed(t: TensorType) -> TensorType:
    return t._replace(dtype=F32) if t.dtype is F64 else t


def _constant(graph: Graph, c: Value) -> Value:
    """The constant, with infinities for what floats of 32 bits do not reach."""
    assert c.data is not None
    with np.errstate(over="ignore"):
        data = np.asarray(c.data).astype(np.float32) if c.type.dtype is F64 else c.data
    made = graph.const(data, c.name, c.origin)
    made.type = _narrowed(c.type)
    return made


def _of_singles(op: Op) -> Op:
    """The operation with attributes that name floats of 32 bits in place of 64."""
    wide = [name for name, value in op.values().items() if value == F64.name]
    return op.with_(**dict.fromkeys(wide, F32.name)) if wide else op

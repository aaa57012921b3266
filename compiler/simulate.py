"""What a quantized graph computes: every annotated value rounded to the integers that it is stored in, and back.

The simulation is a graph of floats, for any executor. Targets that multiply in integers round once more, at the
result of a layer, which is where the simulation rounds too.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.ops.quant import DequantizeLinear, QuantizeLinear
from compiler.palette import looked_up, places
from compiler.quantize import dequantized, quantized
from compiler.tensor import QuantParams


class Simulation(NamedTuple):
    """A graph that computes rounded values, and for each value of the quantized graph the one that stands for it."""

    graph: Graph
    values: dict[Value, Value]


def simulated(graph: Graph, only: Container[Value] | None = None) -> Simulation:
    """The simulation of a graph whose values are annotated; `only` these values are rounded, if given."""
    made = Simulation(Graph(graph.name), {})
    for v in graph.inputs:
        given = made.graph.add_input(v.type._replace(quant=None), v.name)
        made.values[v] = _rounded(made.graph, given, _params(v, only))
    for c in graph.constants:
        made.values[c] = _constant(made.graph, c, only)
    for node in graph.nodes:
        _copy(made, node, only)
    made.graph.set_outputs([made.values[v] for v in graph.outputs], graph.output_names)
    return made


def _params(v: Value, only: Container[Value] | None) -> QuantParams | None:
    return v.type.quant if only is None or v in only else None


def _constant(graph: Graph, v: Value, only: Container[Value] | None) -> Value:
    assert v.data is not None
    data, params, palette = np.asarray(v.data), _params(v, only), v.type.palette
    if params is not None:
        data = dequantized(quantized(data, params), params).astype(data.dtype)
    elif palette is not None and (only is None or v in only):
        data = looked_up(places(data, palette), palette).astype(data.dtype)
    return graph.const(data, v.name, v.origin)


def _copy(made: Simulation, node: Node, only: Container[Value] | None) -> None:
    operands = [None if v is None else made.values[v] for v in node.inputs]
    results = made.graph.add(node.op, *operands, origin=node.origin, names=[v.name for v in node.outputs])
    for v, result in zip(node.outputs, results, strict=True):
        made.values[v] = _rounded(made.graph, result, _params(v, only))


def _rounded(graph: Graph, v: Value, params: QuantParams | None) -> Value:
    if params is None:
        return v
    kind = params.dtype
    shape = () if params.axis is None else (-1,)
    scale = graph.const(np.array(params.scale, np.float32).reshape(shape))
    zero = graph.const(np.array(params.zero_point, kind.numpy).reshape(shape))
    (stored,) = graph.add(QuantizeLinear(axis=params.axis, dtype=kind.name), v, scale, zero)
    return graph.add(DequantizeLinear(axis=params.axis), stored, scale, zero, names=[v.name])[0]

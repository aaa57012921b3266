"""The annotations of a graph as a QDQ file needs them: all operands of a layer of integers, and no others."""

from __future__ import annotations

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.quantize import asymmetric
from compiler.tensor import F32, Array, QuantParams
from passes._int8_scheme import Scheme


def settle(graph: Graph, scheme: Scheme) -> None:
    """Take back the annotations of values that only layers of floats compute and read, and annotate the constants that
    stand beside integers."""
    needed = _beside_integers(graph, scheme)
    values: list[Value] = [*graph.inputs, *(v for n in graph.nodes for v in n.outputs)]
    for v in values:
        if v.type.quant is not None and v not in needed:
            v.type = v.type._replace(quant=None)
    for node in list(graph.nodes):
        if scheme.is_integer(node) and node.outputs[0].type.quant is not None:
            for index, c in enumerate(node.inputs):
                if c is not None and c.data is not None and c.type.dtype is F32 and c.type.quant is None:
                    _annotate(graph, node, index, c, node.op.name in scheme.same)


def _beside_integers(graph: Graph, scheme: Scheme) -> set[Value]:
    """The annotated values that a layer of integers computes or reads, or that are only moved on the way to one."""
    found: set[Value] = set()
    waiting = [v for n in graph.nodes if n.op.name in scheme.integer for v in (*n.inputs, *n.outputs) if v is not None]
    while waiting:
        v = waiting.pop()
        if v in found or v.type.quant is None:
            continue
        found.add(v)
        near = [*([v.node] if v.node else []), *v.users]
        moved = [n for n in near if n.op.name in scheme.same or n.op.name == "relu"]
        waiting += [w for n in moved for w in (*n.inputs, *n.outputs) if w is not None]
    return found


def _annotate(graph: Graph, node: Node, index: int, v: Value, same: bool) -> None:
    """The parameters of a result that is not rescaled; else those of the numbers themselves."""
    assert v.data is not None
    result = node.outputs[0].type.quant
    assert result is not None
    params = result if same else _whole(np.asarray(v.data), result)
    own = graph.const(v.data, v.name, v.origin)
    own.type = v.type
    graph.set_operand(node, index, own)
    own.type = v.type._replace(quant=params)


def _whole(array: Array, result: QuantParams) -> QuantParams:
    """For all numbers of a constant; numbers without end are stored as the result saturates."""
    if not np.isfinite(array).all():
        return result
    return asymmetric(float(array.min(initial=0.0)), float(array.max(initial=0.0)))

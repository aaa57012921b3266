"""Constants of layers that get other data."""

from __future__ import annotations

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.tensor import Array


def set_data(graph: Graph, node: Node, index: int, data: Array) -> None:
    """Let a layer read other numbers for a constant operand, in its type and with its annotations; other readers of
    that constant keep it."""
    old = node.inputs[index]
    assert old is not None
    assert old.data is not None
    new = graph.const(np.ascontiguousarray(data).astype(old.data.dtype, copy=False), old.name, old.origin)
    new.type = old.type
    graph.set_operand(node, index, new)


def data_of(v: Value | None) -> Array:
    """The numbers of a constant."""
    assert v is not None
    assert v.data is not None
    return v.data

"""Names that tell a graph's values apart, whatever they are called in the graph."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import numpy as np

from compiler.graph import Graph, Value


def value_names(graph: Graph) -> dict[Value, str]:
    """A name for each input and each result of a layer: its own, or one made of it where that is taken or empty; the
    same for graphs of the same layers."""
    names: dict[Value, str] = {}
    used: dict[str, int] = {}
    for v in _values(graph):
        base = name = v.name or "value"
        while name in used:
            used[base] += 1
            name = f"{base}_{used[base]}"
        used[name] = 0
        names[v] = name
    return names


def _values(graph: Graph) -> Iterator[Value]:
    """Named ones first, so that what nobody named takes no name from them."""
    everything = [*graph.inputs, *(v for n in graph.nodes for v in n.outputs)]
    yield from (v for v in everything if v.name)
    yield from (v for v in everything if not v.name)


def fingerprint(graph: Graph) -> str:
    """SHA-256 of the names of a graph's values, its layers, and the numbers of its constants."""
    hashed = sha256("\n".join(value_names(graph).values()).encode())
    for node in graph.nodes:
        hashed.update(f"\n{node.op.name} {[v.type.shape for v in node.outputs]}".encode())
    for v in graph.constants:
        if v.data is not None and v.data.dtype != object:
            hashed.update(f"\n{v.data.dtype} {v.data.shape}".encode())
            hashed.update(np.ascontiguousarray(v.data).data)
    return hashed.hexdigest()

"""Which multiples of their steps the weights of a graph become."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.quantize import dequantized, limits
from compiler.tensor import I16, Array
from passes._fitted import data_of
from passes._gram import Gram, as_rows, enough, from_rows, is_matrix, kind_of, samples, together
from passes._repair import Rows
from passes._rounding import rounded


def choose(graph: Graph, rows: Rows) -> dict[Node, Array]:
    """New data for the weight of each layer that has a quantized one of 8 bits or fewer, and reads floats that are
    known by then."""
    nodes = [n for n in graph.nodes if is_matrix(n) and _is_stored(n.inputs[1])]
    grams = _grams(graph, nodes, rows)
    made: dict[Node, Array] = {}
    for alike in _shared(nodes):
        kinds = dict.fromkeys(map(kind_of, alike))
        made.update(dict.fromkeys(alike, _weight(alike[0], together([grams[kind] for kind in kinds]))))
    return {n: data for n, data in made.items() if not np.array_equal(data, data_of(n.inputs[1]))}


def _shared(nodes: list[Node]) -> list[list[Node]]:
    """Layers that multiply with the same numbers in the same way, such as the steps of a recurrent one, side by side;
    their weights stay the same."""
    alike: dict[Hashable, list[Node]] = {}
    for n in nodes:
        w = n.inputs[1]
        assert w is not None
        alike.setdefault((n.op, id(w.data), w.type.quant), []).append(n)
    return list(alike.values())


def _is_stored(v: Value | None) -> bool:
    quant = None if v is None else v.type.quant
    return quant is not None and quant.dtype.kind == "i" and quant.dtype.bits < I16.bits and not any(quant.zero_point)


def _grams(graph: Graph, nodes: list[Node], rows: Rows) -> dict[Hashable, Gram]:
    """H of each kind of layer, from what the graph computes in floats."""
    kinds = {kind_of(n): n for n in nodes}
    grams: dict[Hashable, Gram] = {kind: Gram() for kind in kinds}
    values = list(dict.fromkeys(v for n in kinds.values() if (v := n.inputs[0]) is not None))
    rng = np.random.default_rng(0)
    for arrays in rows.each(graph, values) if values else ():
        found = dict(zip(values, arrays, strict=True))
        for kind, node in kinds.items():
            x = node.inputs[0]
            assert x is not None
            grams[kind].add(samples(node, found[x], max(1, enough(node) // len(rows.feeds)), rng))
    return grams


def _weight(node: Node, gram: Gram) -> Array:
    v = node.inputs[1]
    data = data_of(v)
    assert v is not None
    params = v.type.quant
    assert params is not None
    step = dequantized(np.ones(data.shape, np.int8), params)
    limit = limits(params.dtype, narrow=True)[1]
    steps = as_rows(node, step)
    made = rounded(as_rows(node, data), steps, limit, gram.blocks, gram.count)
    found = np.ascontiguousarray(from_rows(node, made, data.shape), data.dtype)
    found.flags.writeable = False  # so that all constants of it share it
    return found

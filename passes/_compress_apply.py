"""Compressing a graph by a choice of techniques for its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from compiler.errors import UsageError
from compiler.graph import Graph
from passes._compression import Rows, Setting, Technique, Work, layer_names, work_of

Choices = Mapping[str, Mapping[str, Setting]]  # settings by technique and layer
Watch = Callable[[str, Sequence[str]], object]  # told a technique and its layers, once they are compressed


def apply_all(
    graph: Graph, techniques: Sequence[Technique], choices: Choices, rows: Rows | None, watch: Watch | None = None
) -> list[str]:
    """Compress layers, technique by technique in their order. What an earlier one made of a layer may leave nothing for
    a later one to save: returns the layers that stay as they are for that."""
    shapes = {name: _shapes(graph, name) for t in techniques for name in choices.get(t.name, {})}
    left: list[str] = []
    for technique in techniques:
        mine = dict(choices.get(technique.name, {}))
        for name in [n for n in mine if _shapes(graph, n) != shapes[n]]:
            if not _saves(graph, technique, name, mine[name]):
                left.append(name)
                del mine[name]
        if mine:
            technique.apply(graph, mine, rows)
            if watch is not None:
                watch(technique.name, list(mine))
    return left


def _saves(graph: Graph, technique: Technique, layer: str, setting: Setting) -> bool:
    """Whether a setting still fits a layer and makes it smaller."""
    twin = graph.clone()
    try:
        technique.apply(twin, {layer: setting}, None)
    except UsageError:
        return False
    before, after = count(graph), count(twin)
    pairs = (
        (before.parameters, after.parameters),
        (before.macs, after.macs),
        (_not_zero(graph), _not_zero(twin)),
    )
    return all(a <= b for b, a in pairs) and any(a < b for b, a in pairs)


def count(graph: Graph) -> Work:
    """Parameters and multiply-accumulates of all layers."""
    return work_of(graph.nodes)


def _not_zero(graph: Graph) -> int:
    """How many numbers of constants are not zeros."""
    found = {id(v.data): v.data for v in graph.constants if v.data is not None}
    return sum(int(np.count_nonzero(data)) for data in found.values() if data.dtype.kind != "V")


def _shapes(graph: Graph, layer: str) -> tuple[object, ...]:
    node = layer_names(graph).get(layer)
    return () if node is None else tuple(None if v is None else v.type.shape for v in node.inputs)

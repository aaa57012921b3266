"""Weights in fewer bits as a technique among others: each layer in one of the ways that a target stores weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from compiler.errors import UsageError
from compiler.graph import Graph, Node, Value
from compiler.tensor import Array, Palette, QuantParams
from passes._compression import Candidate, Cost, Rows, Setting, layer_names, macs_of, work_of
from passes._fitted import data_of, set_data
from passes._storage import expanded, outline
from passes._weight_bits import Storage, annotation_for, floats_in, refusal, set_annotation, storage_of

OPTION = "storage"


class WeightBits:
    """Rounded weights; `Setting`: storage, such as palette4/16, for the weights of a layer and of what it was split
    into. Constants get the very numbers that are read back, and the annotation that says so if the target has that
    storage.

    storages  that a target has
    halves    scales and tables are of numbers that fp16 holds
    """

    name = "weight-bits"

    def __init__(self, storages: Sequence[Storage], halves: bool = False, cost: Cost = macs_of) -> None:
        self.storages = storages
        self.halves = halves
        self.cost = cost
        self._known: dict[tuple[int, Storage], tuple[Array, QuantParams | Palette]] = {}

    def candidates(self, graph: Graph, rows: Rows | None) -> Iterator[Candidate]:
        """Every storage for each layer that has large weights. Errors are those of the weights, with rows too: noise
        at the outputs is in proportion to them."""
        seen: set[int] = set()
        for layer, node in layer_names(graph).items():
            weights = [v for v in _weights(node) if id(v.data) not in seen]
            seen.update(id(v.data) for v in weights)
            if weights:
                found = [self._candidate(layer, node, weights, s) for s in self.storages]
                yield from sorted(found, key=lambda c: -c.after.bits)

    def _candidate(self, layer: str, node: Node, weights: Sequence[Value], storage: Storage) -> Candidate:
        before, types = work_of([node], self.cost), [v.type for v in weights]
        error = energy = 0.0
        for v in weights:
            data, annotation = data_of(v), self._annotation(v, storage)
            error += float(np.square(expanded(data, annotation) - data, dtype=np.float64).sum())
            energy += float(np.square(data, dtype=np.float64).sum())
            set_annotation(v, annotation)
        after = work_of([node], self.cost)
        if not self.halves:  # scales and tables of fp32
            after = after._replace(bits=after.bits + 16 * sum(floats_in(self._annotation(v, storage)) for v in weights))
        for v, kind in zip(weights, types, strict=True):
            v.type = kind
        return Candidate(layer, self.name, {OPTION: str(storage)}, before, after, min(error / max(energy, 1e-30), 1.0))

    def apply(self, graph: Graph, chosen: Mapping[str, Setting], rows: Rows | None) -> Sequence[Node]:
        """Round the weights of some layers, to the nearest numbers."""
        wanted = self._wanted(graph, chosen)
        done: dict[int, Array] = {}
        for node, storage in wanted:
            for v in _weights(node):
                data, annotation = data_of(v), self._annotation(v, storage)
                if id(data) not in done:
                    done[id(data)] = expanded(data, annotation)
                    done[id(data)].flags.writeable = False  # so that all constants of it share it
                _replace(graph, v, done[id(data)], annotation if storage in self.storages else None)
        return [node for node, _ in wanted]

    def rounds(self, graph: Graph, layer: str, setting: Setting) -> bool:
        """Whether a layer still has weights that are large enough."""
        return any(_weights(node) for node, _ in self._wanted(graph, {layer: setting}))

    def mark(self, graph: Graph, chosen: Mapping[str, Setting]) -> None:
        """Annotate weights as `apply` does, with scales and tables of nothing: for what is counted alone."""
        for node, storage in self._wanted(graph, chosen):
            for v in _weights(node):
                set_annotation(v, outline(v, storage))

    def _wanted(self, graph: Graph, chosen: Mapping[str, Setting]) -> list[tuple[Node, Storage]]:
        names = layer_names(graph)
        wanted: list[tuple[Node, Storage]] = []
        for layer, setting in chosen.items():
            nodes = [n for name, n in names.items() if name == layer or name.startswith(f"{layer}/part")]
            if set(setting) != {OPTION} or not nodes:
                raise UsageError(f"{self.name} does not know the layer {layer!r} or the setting {dict(setting)}")
            wanted += [(n, storage_of(str(setting[OPTION]))) for n in nodes]
        return wanted

    def _annotation(self, v: Value, storage: Storage) -> QuantParams | Palette:
        """As found before, of a weight that is asked about again and again."""
        data = data_of(v)
        key = id(data), storage
        if key not in self._known:
            self._known[key] = data, annotation_for(v, storage, self.halves)
        return self._known[key][1]


def _replace(graph: Graph, v: Value, data: Array, annotation: QuantParams | Palette | None) -> None:
    """Let all readers of a constant read other numbers, stored so (None: as floats)."""
    for node in list(v.users):
        for i in [i for i, operand in enumerate(node.inputs) if operand is v]:
            set_data(graph, node, i, data)
            made = node.inputs[i]
            assert made is not None
            if annotation is not None:
                set_annotation(made, annotation)


def _weights(node: Node) -> list[Value]:
    """What a layer reads and can have fewer bits."""
    found = {id(v): v for v in node.inputs if v is not None and v.data is not None and v.type.rank >= 2}
    return [v for v in found.values() if v.type.dtype.is_float and v.users and refusal(v) is None]


def without_annotations(graph: Graph) -> None:
    """Leave what stands in annotations of constants to the numbers themselves."""
    for v in graph.constants:
        v.type = v.type._replace(quant=None, palette=None)

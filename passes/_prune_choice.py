"""Which channels go: groups of units that one set of layers computes, and how many of each."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from compiler.graph import Graph, Node
from compiler.tensor import Array
from passes import _prune_moves  # noqa: F401  # registers its rules
from passes._compression import Rows
from passes._prune_balance import balance
from passes._prune_rules import units_of
from passes._prune_scores import Elimination, Reader, by_readers, by_scales, by_weights, readers_of

IMPORTANCES = ("auto", "l1", "l2", "scale", "activation", "reconstruction")


class Group(NamedTuple):
    """Units that the same layers compute, in as many channels each.

    node      the first of these layers
    channels  that it has
    width     how many of them a unit takes
    units     classes that may go, the least important first
    errors    relative error that each adds to the layers that read it; importance where there are no data
    """

    node: Node
    channels: int
    width: int
    units: list[int]
    errors: list[float]

    def takes(self, amount: float, multiple: int) -> int:
        """How many units go for a share of all, so that a multiple of channels is left; 0 if none is found."""
        wanted = min(int(amount * (self.channels // self.width) + 1e-9), len(self.units))
        fits = (n for n in range(wanted, 0, -1) if (self.channels - n * self.width) % multiple == 0)
        return next(fits, 0)


def _is_annotated(graph: Graph) -> bool:
    """Whether it is said of some value how it is stored: that would be lost."""
    values = (*graph.inputs, *graph.constants, *(v for n in graph.nodes for v in n.outputs))
    return any(v.type.quant is not None or v.type.palette is not None for v in values)


class Plan:
    """The units of a graph, ranked; of one that is annotated for the storage of integers, none.

    importance   one of IMPORTANCES; auto: reconstruction where there are rows, else l2
    most         largest share of a group that is ranked
    only         first layers of the groups that are ranked, as they are among all; the others are left out
    """

    def __init__(
        self, graph: Graph, importance: str, rows: Rows | None, most: float, only: Container[Node] | None = None
    ) -> None:
        self.graph = graph
        self.units = units_of(graph)
        u = self.units
        balance(u, by_weights(u, 2))
        if importance == "auto":
            importance = "l2" if rows is None else "reconstruction"
        found = [] if _is_annotated(graph) else self._grouped()
        if only is not None:
            found = [g for g in found if g[0] in only]
        second = importance == "reconstruction"
        by_data = second or importance == "activation"
        wanted = self._marks([c for *_, units in found for c in units] if second else ())
        readers = readers_of(graph, u, rows, wanted) if by_data and rows is not None else []
        if readers:
            self.scores = by_readers(u, readers)
        elif importance == "scale":
            self.scores = by_scales(u, graph)
        else:
            self.scores = by_weights(u, 1 if importance == "l1" else 2)
        spared = self._spared()
        self.groups = [
            self._ranked(
                (node, channels, width, [c for c in units if c not in spared]), readers if second else (), most
            )
            for node, channels, width, units in found
        ]

    def _grouped(self) -> list[tuple[Node, int, int, list[int]]]:
        u = self.units
        within: dict[int, list[tuple[int, int]]] = {}
        for i, end in enumerate(u.gives):
            values, counts = np.unique(u.classes[end.ids], return_counts=True)
            for c, n in zip(values.tolist(), counts.tolist(), strict=True):
                if not u.fixed[c]:
                    within.setdefault(c, []).append((i, n))
        alike: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for c, key in within.items():
            alike.setdefault(tuple(key), []).append(c)
        found = []
        for ends, classes in alike.items():
            first, width = ends[0]
            end = u.gives[first]
            found.append((end.node, len(end.ids), width, classes))
        return found

    def _spared(self) -> set[int]:
        """The best unit of each value all of whose channels could go."""
        u = self.units
        spared: set[int] = set()
        for ids in {v.tobytes(): v for v in u.of.values()}.values():
            classes = np.unique(u.classes[ids])
            if not u.fixed[classes].any() and not spared & set(classes.tolist()):
                spared.add(int(classes[self.scores[classes].argmax()]))
        return spared

    def _ranked(self, group: tuple[Node, int, int, list[int]], readers: Sequence[Reader], most: float) -> Group:
        node, channels, width, units = group
        known = Elimination(self.units, readers, units)
        if known.states:
            limit = min(len(units), int(most * (channels // width) + 1e-9))
            return Group(node, channels, width, *known.order(units, limit))
        units = sorted(units, key=lambda c: self.scores[c])
        return Group(node, channels, width, units, [float(self.scores[c]) for c in units])

    def share(self, amount: float, multiple: int) -> Array:
        """What goes, [numbers], if every group loses a share of its units."""
        return self.chosen({g.node: amount for g in self.groups}, multiple)

    def chosen(self, amounts: Mapping[Node, float], multiple: int) -> Array:
        """What goes, [numbers], if groups lose shares of their units, by their first layers."""
        wanted = [c for g in self.groups if g.node in amounts for c in g.units[: g.takes(amounts[g.node], multiple)]]
        return self._marks(wanted)

    def threshold(self, amount: float, multiple: int, most: float) -> Array:
        """What goes, [numbers], if those units of the whole graph go that matter least, a share of all, and of no
        group more than `most`."""
        ranked = [
            (np.maximum.accumulate(g.errors or [0.0])[i], k, c)
            for k, g in enumerate(self.groups)
            for i, c in enumerate(g.units[: g.takes(most, 1)])
        ]
        total = sum(g.channels // g.width for g in self.groups)
        first = sorted(ranked)[: int(amount * total + 1e-9)]
        counts = np.bincount([k for _, k, _ in first], minlength=len(self.groups))
        wanted: list[int] = []
        for g, n in zip(self.groups, counts.tolist(), strict=True):
            wanted += g.units[: g.takes((n + 0.5) * g.width / g.channels, multiple)]
        return self._marks(wanted)

    def _marks(self, classes: Sequence[int]) -> Array:
        """The numbers of these classes, [numbers]."""
        marks = np.zeros(self.units.count, np.bool_)
        marks[list(classes)] = True
        return np.asarray(marks[self.units.classes])

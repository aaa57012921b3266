"""Which channels of a graph can be removed together, and which constants shrink with them.

Layers with weights begin new numbers, one for each channel of what they compute. Layouts of numbers are kept as index
arrays that broadcast to the values, so that heads, flattened channels and concatenations are followed. Rules of layers
say which numbers are one (both operands of a sum), which stay (results of the graph), and which blocks of them must
lose equally many (groups of a convolution); the classes of equal numbers are the units that a pass may remove. This is
the dependency graph of G. Fang et al., DepGraph: Towards Any Structural Pruning, 2023, with numbers for its edges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.tensor import Array
from passes._scales import classes_of

Rule = Callable[["Units", Node, Any], None]  # Any: the operation, whose class the table names


class Cut(NamedTuple):
    """A constant operand that loses along `axis` what the index array `ids` loses along its axis `along`."""

    operand: int
    axis: int
    ids: Array
    along: int


class End(NamedTuple):
    """A layer with weights that computes numbered channels, or reads them: numbers [channels] in the order in which
    they lie along `axis` of operand 1; of a grouped convolution that reads, in the order of its channels."""

    node: Node
    axis: int
    ids: Array


class Units:
    """The numbers of a graph.

    of        index array of each value that has numbers
    cuts      constants that shrink, by layer
    gives     ends that compute
    takes     ends that read
    blocks    numbers [blocks, channels]: each block has to lose as many
    groups    of convolutions whose groups stay, numbers [groups, channels] that they read (None: they stay) and compute
    shuffles  reshapes to which a transpose and a reshape belong that together only reorder one axis
    classes   smallest number that each is one with
    fixed     of each class, whether it stays
    """

    def __init__(self, graph: Graph, rules: Mapping[type[Op], Rule], other: Rule) -> None:
        self.of: dict[Value, Array] = {}
        self.cuts: dict[Node, list[Cut]] = {}
        self.gives: list[End] = []
        self.takes: list[End] = []
        self.blocks: list[Array] = []
        self.groups: dict[Node, tuple[Array | None, Array]] = {}
        self.shuffles: dict[Node, tuple[Node, Node]] = {}
        self.count = 0
        self._fixed: list[Array] = []
        self._equal: list[tuple[Array, Array]] = []
        for node in graph.nodes:
            rules.get(type(node.op), other)(self, node, node.op)
        self.fix(*graph.outputs)
        self._share(graph)
        self.close()
        self._settle()

    def _share(self, graph: Graph) -> None:
        """Weights that several layers read are cut in one way: their numbers are one, or stay if one is not cut."""
        readers = Counter(
            id(v.data) for n in graph.nodes for v in n.inputs[1:2] if v is not None and v.data is not None
        )
        ends: dict[tuple[int, int], list[Array]] = {}
        for end in (*self.gives, *self.takes):
            w = end.node.inputs[1]
            if w is not None and readers[id(w.data)] > 1:
                ends.setdefault((id(w.data), end.axis), []).append(end.ids)
        for (weight, _), lines in ends.items():
            for ids in lines[1:]:
                self.equal(lines[0], ids)
            if len(lines) < readers[weight]:
                self.fix_ids(lines[0])

    def new(self, count: int) -> Array:
        """Numbers that were not there before."""
        self.count += count
        return np.arange(self.count - count, self.count)

    def fix(self, *values: Value | None) -> None:
        """The numbers of these values stay."""
        self._fixed += [self.of[v] for v in values if v is not None and v in self.of]

    def fix_ids(self, ids: Array) -> None:
        """These numbers stay."""
        self._fixed.append(ids)

    def equal(self, a: Array, b: Array) -> None:
        """Two index arrays, broadcast together, have one number at each place."""
        self._equal.append(tuple(np.broadcast_arrays(a, b)))  # type: ignore[arg-type]  # two of them

    def couple(self, ids: Array, axes: Sequence[int]) -> Array:
        """Make numbers one along axes; returns the index array without these."""
        first = ids
        for axis in axes:
            first = first.take([0], axis)
        if first.size < ids.size:
            self.equal(ids, first)
        return first

    def hand_on(self, y: Value, ids: Array) -> None:
        """The result has these numbers, if there are different ones."""
        if ids.size > 1:
            self.of[y] = ids

    def cut(self, node: Node, operand: int, axis: int, ids: Array, along: int = 0) -> None:
        """A constant of a layer shrinks with numbers."""
        self.cuts.setdefault(node, []).append(Cut(operand, axis, ids, along))

    def close(self) -> None:
        """Find the classes."""
        self.classes = classes_of(self.count, self._equal)
        self.fixed = np.zeros(self.count, np.bool_)
        for ids in self._fixed:
            self.fixed[self.classes[ids.reshape(-1)]] = True

    def grid(self, ids: Array) -> Array:
        """The classes of an index array, without axes along which nothing changes."""
        found = self.classes[ids]
        for axis in range(found.ndim):
            first = found.take([0], axis)
            found = first if found.shape[axis] > 1 and bool((found == first).all()) else found
        return found

    def _settle(self) -> None:
        """Make what can be removed from each value lie along one axis, the one with most channels."""
        apart = {v for nodes in self.shuffles.items() for n in (nodes[0], nodes[1][0]) for v in n.outputs}
        wide = [ids for v, ids in self.of.items() if v not in apart and len(varied(ids)) > 1]
        for _ in range(len(wide) + 1):
            grids = [g for g in map(self.grid, wide) if len(varied(g)) > 1]
            if not grids:
                return
            for g in grids:
                axes = varied(g)
                self.couple(g, [a for a in axes if a != max(axes, key=lambda a: g.shape[a])])
            self.close()


def varied(ids: Array) -> list[int]:
    """The axes along which there is more than one number."""
    return [i for i, d in enumerate(ids.shape) if d > 1]


def line(ids: Array, rank: int, axis: int) -> Array:
    """Numbers [channels] along one of `rank` axes."""
    return ids.reshape([-1 if i == axis % rank else 1 for i in range(rank)])

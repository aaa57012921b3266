"""Which values to store in more bits: ranked by what rounding them alone does to the outputs.

A unit is a group of values that share their parameters, with the layers around them. The first `count` units of the
ranking are stored in 16 bits; beyond all of them, the first ones in floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple, Protocol

from compiler.graph import Graph, Node, Value
from compiler.simulate import simulated
from compiler.tensor import I8, I16, Array
from passes._budget import Outputs
from passes._int8_scheme import Ranges, Scheme
from passes._int16 import fit_biases, tied, values, widen

SIMULATIONS = 64  # at most, to rank the units
SILENT = 100.0  # dB below which nothing is worth telling apart


class Trial(Protocol):
    """Rows on which graphs are compared."""

    @property
    def feeds(self) -> Sequence[Mapping[str, Array]]: ...

    def reference(self, graph: Graph) -> Outputs:
        """The outputs in floats."""

    def run(self, graph: Graph) -> Outputs:
        """The outputs of a graph as it is."""


class Cost(NamedTuple):
    """What a unit costs: the layers that compute it, the type it is stored in, bytes of constants, and conversions."""

    layers: tuple[str, ...]
    stored: str
    nbytes: int
    conversions: int

    def __str__(self) -> str:
        noun = "conversion" if abs(self.conversions) == 1 else "conversions"
        return f"{', '.join(self.layers)} in {self.stored} ({self.nbytes:+,} bytes, {self.conversions:+} {noun})"


class Plan:
    """The units of an annotated graph, most damaging first. `snr` compares outputs with the floats in dB; `floats` is
    the graph before weights were rounded, or None."""

    def __init__(
        self, graph: Graph, scheme: Scheme, trial: Trial, snr: Callable[[Outputs, Outputs], float], floats: Graph | None
    ) -> None:
        self._scheme = scheme
        self._trial = trial
        self._snr = snr
        self._floats = _constants(floats) if floats is not None and _alike(floats, graph) else {}
        places = {v: i for i, v in enumerate(values(graph))}
        groups = tied(graph, scheme, (I8, I16))
        self._units = [[places[v] for v in group] for group in groups]
        self._narrow = [unit for unit, group in zip(self._units, groups, strict=True) if any(map(_is_byte, group))]
        self._wide: list[list[int]] | None = None
        self._real: list[list[int]] | None = None
        self._reference = trial.reference(graph if floats is None else floats)

    @property
    def most(self) -> int:
        """The count at which every value is a float."""
        return len(self._narrow) + len(self._units)

    @property
    def widest(self) -> int:
        """The count at which every value that can has 16 bits."""
        return len(self._narrow)

    def apply(self, graph: Graph, count: int, ranges: Ranges) -> set[Value]:
        """Store the first units in more bits; returns the values that stay floats. A larger count may follow."""
        held = list(values(graph))
        for unit in self._ranked_wide(graph)[:count]:
            widen([held[i] for i in unit if _is_byte(held[i])], self._scheme, lambda v: ranges.get(v, (0.0, 0.0)))
        reals = set[Value]()
        for unit in self._ranked_real(graph)[: max(count - self.widest, 0)] if count > self.widest else ():
            reals.update(held[i] for i in unit)
        for v in reals:
            v.type = v.type._replace(quant=None)
        fit_biases(graph, self._scheme, self._floats)
        return reals

    def costs(self, graph: Graph, count: int, ranges: Ranges) -> list[Cost]:
        """What each unit costs when it follows those before it; `graph` is as it was before any."""
        twin, found = graph.clone(), list[Cost]()
        known = {b: ranges[a] for a, b in zip(values(graph), values(twin), strict=True) if a in ranges}
        nbytes, crossings = _nbytes(twin), _crossings(twin)
        for n in range(1, count + 1):
            self.apply(twin, n, known)
            held = list(values(twin))
            order, place = (self._ranked_wide, n) if n <= self.widest else (self._ranked_real, n - self.widest)
            unit = [held[i] for i in order(twin)[place - 1]]
            more, across = _nbytes(twin), _crossings(twin)
            kind = unit[0].type.quant
            stored = "float32" if kind is None else "int16" if kind.dtype is I16 else ""
            if stored:
                found.append(Cost(_names(unit, self._scheme), stored, more - nbytes, across - crossings))
            nbytes, crossings = more, across
        return found

    def _ranked_wide(self, graph: Graph) -> list[list[int]]:
        if self._wide is None:
            self._wide = self._ranked(graph, weights=False)
        return self._wide

    def _ranked_real(self, graph: Graph) -> list[list[int]]:
        if self._real is None:
            self._real = self._ranked(graph, weights=True)
        return self._real

    def _ranked(self, graph: Graph, weights: bool) -> list[list[int]]:
        """By damage; where there are more units than simulations, neighbours are ranked together, the worst of those
        apart."""
        held, done, units = list(values(graph)), 0, self._units if weights else self._narrow

        def damage(block: list[list[int]]) -> float:
            nonlocal done
            done += 1
            chosen = {held[i] for unit in block for i in unit}
            if weights:
                nodes = {v.node for v in chosen if v.node is not None}
                chosen |= {v for n in nodes for v in n.inputs if v is not None and v.data is not None}
            found = self._snr(self._reference, self._trial.run(simulated(graph, only=chosen).graph))
            return 10 ** (-min(found, SILENT) / 10)

        size = max(1, -(-len(units) * 2 // SIMULATIONS))
        blocks = [units[i : i + size] for i in range(0, len(units), size)]
        queue = [(-damage(block), i, block) for i, block in enumerate(blocks)]
        heapify(queue)
        ranked: list[tuple[float, int, list[list[int]]]] = []
        while queue:
            worst = heappop(queue)
            if len(worst[2]) == 1 or done + 2 > SIMULATIONS:
                ranked.append(worst)
                continue
            middle = len(worst[2]) // 2
            for i, part in enumerate((worst[2][:middle], worst[2][middle:])):
                heappush(queue, (-damage(part), worst[1] * 2 + i, part))
        ranked.sort(key=lambda entry: entry[:2])
        return [unit for _, _, block in ranked for unit in block]


def _is_byte(v: Value) -> bool:
    return v.type.quant is not None and v.type.quant.dtype is I8


def _constants(graph: Graph) -> dict[tuple[int, int], Array]:
    """The constants of a graph by the numbers of layer and operand."""
    return {
        (i, k): v.data
        for i, node in enumerate(graph.nodes)
        for k, v in enumerate(node.inputs)
        if v is not None and v.data is not None
    }


def _alike(a: Graph, b: Graph) -> bool:
    return [n.op.name for n in a.nodes] == [n.op.name for n in b.nodes]


def _names(unit: Sequence[Value], scheme: Scheme) -> tuple[str, ...]:
    """The layers that compute a unit, without those that only move it; these if there are no others."""
    computed = [v for v in unit if v.node is None or v.node.op.name not in scheme.same]
    return tuple(dict.fromkeys(map(_name, computed or unit[:1])))


def _name(v: Value) -> str:
    if v.node is None:
        return f"input {v.name!r}"
    origin = min(v.node.origin, default="")
    return f"{v.node.op.name} {v.name or origin!r}" if v.name or origin else v.node.op.name


def _nbytes(graph: Graph) -> int:
    """Of the constants as they are stored."""
    bits = (v.type.size * (v.type.quant.dtype if v.type.quant else v.type.dtype).bits for v in graph.constants)
    return sum(bits) // 8


def _crossings(graph: Graph) -> int:
    """How often a value is converted: for each width that a layer reads it in, and from the one it is computed in."""
    modes = {node: _mode(node) for node in graph.nodes}
    count = 0
    for v in values(graph):
        own = v.type.quant.dtype.name if v.type.quant else "f32"
        if v.type.dtype.is_float:
            around = {modes[n] for n in v.users}
            count += len(around - {own}) + (v.node is not None and modes[v.node] != own)
    return count


def _mode(node: Node) -> str:
    """The type that a layer computes in."""
    kinds = {_stored(v) for v in _flowing(node)}
    return next((kind for kind in ("f32", "i16") if kind in kinds), "i8")


def _flowing(node: Node) -> Iterator[Value]:
    return (v for v in (*node.inputs, *node.outputs) if v is not None and v.data is None and v.type.dtype.is_float)


def _stored(v: Value) -> str:
    return v.type.quant.dtype.name if v.type.quant else "f32"

"""Where to cut a graph into chunks whose constants fit a limit, and the chunks as graphs of their own.

Method: layers stay in their topological order, and a cut is a place between two of them. Its cost are the bytes of the
computed values that are made before it and read behind it. `find_cuts` is a dynamic program over the places: the best
way to end a chunk at a place is the best start from which its constants still fit, by the number of chunks and then by
the sum of the costs. Starts that fit form a window that only moves forward, so that its minimum is kept in a queue, and
everything is linear in the number of operands. Constants that several chunks read count in each.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from compiler.errors import UsageError
from compiler.graph import Graph, Node, Value
from compiler.ops.elementwise import Cast
from compiler.tensor import DType

Stored = Mapping[Any, int]  # the constants that a layer reads: anything that identifies each, and its bytes as stored
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Chunk(NamedTuple):
    """A part of a graph: its layers as a graph of their own, the value of the whole that each of its values is, the
    bytes of its constants, and the bytes of what crosses the cut behind it."""

    graph: Graph
    originals: dict[Value, Value]
    stored: int
    crossing: int


def parse_size(text: str, option: str = "--split") -> int:
    """Bytes, from a number with a unit: KB, MB and GB of thousands, KiB, MiB and GiB of 1024. UsageError otherwise."""
    clean = text.strip().upper()
    unit = next((u for u in UNITS if clean.endswith(u)), "")
    number = clean.removesuffix(unit).strip()
    whole, _, part = number.partition(".")
    known = unit and number.isascii() and len(number) < 20 and (whole + part).isdecimal()
    size = int(float(number) * UNITS[unit]) if known else 0
    if not size:
        raise UsageError(f"{option} {text!r} is not a size", hint=f"for example {option} 1GB, 500MB or 1.5GiB")
    return size


def find_cuts(stored: Sequence[Stored], costs: Sequence[float], limit: int) -> list[int] | None:
    """The places after which chunks end, in layers from the start, the last being the number of layers.

    stored  by layer
    costs   by place: that of a cut before the layer of that number; infinite where there can be none

    None if no choice of places keeps every chunk within the limit.
    """
    best = [(0, 0.0), *[(0, math.inf)] * len(stored)]  # by place: chunks before it, and what their cuts cost
    starts = [0] * len(best)
    window: deque[tuple[tuple[int, float], int]] = deque()  # starts of the chunk that ends here, better ones later gone
    held: Counter[Hashable] = Counter()
    size = first = 0
    for place, layer in enumerate(stored):
        cost = best[place][0], best[place][1] + (costs[place] if place else 0.0)
        while window and window[-1][0] > cost:
            window.pop()
        if cost[1] < math.inf:
            window.append((cost, place))
        size += sum(nbytes for key, nbytes in layer.items() if not held[key])
        held.update(layer.keys())
        while size > limit:
            held.subtract(stored[first].keys())
            size -= sum(nbytes for key, nbytes in stored[first].items() if not held[key])
            first += 1
        while window and window[0][1] < first:
            window.popleft()
        if window:
            (chunks, total), starts[place + 1] = window[0]
            best[place + 1] = chunks + 1, total
    if best[-1][1] == math.inf:
        return None
    ends = [len(stored)]
    while starts[ends[-1]]:
        ends.append(starts[ends[-1]])
    return ends[::-1]


def cut_costs(graph: Graph, nbytes: Callable[[Value], float]) -> list[float]:
    """By place, the bytes of the computed values that cross it; `nbytes` is infinite for values that may not."""
    nodes = list(graph.nodes)
    where = {node: i for i, node in enumerate(nodes)}
    changes = [[0, 0] for _ in (*nodes, None)]  # by place: bytes, and values that may not cross
    for i, node in enumerate(nodes):
        for v in node.outputs:
            last = max((where[user] for user in v.users), default=i)
            if last > i:
                size = nbytes(v)
                kind, amount = (1, 1) if size == math.inf else (0, int(size))
                changes[i + 1][kind] += amount
                changes[last + 1][kind] -= amount
    costs = []
    total = barriers = 0
    for crossing, barrier in changes:
        total, barriers = total + crossing, barriers + barrier
        costs.append(math.inf if barriers else float(total))
    return costs


def split_graph(
    graph: Graph,
    limit: int,
    stored: Sequence[Stored],
    nbytes: Callable[[Value], float],
    narrowed: Callable[[Value], DType | None] = lambda _: None,
) -> list[Chunk]:
    """The fewest chunks within the limit, and of these those with the least bytes crossing; one if the graph fits.

    stored    the constants of each layer
    nbytes    of a value that crosses a cut, infinite if it may not
    narrowed  the element type in which a value crosses, if it is another than its own

    Raises UsageError that names the layer whose constants alone exceed the limit, or says that there is no place.
    """
    nodes = list(graph.nodes)
    for node, layer in zip(nodes, stored, strict=True):
        _expect_fits(node, layer, limit)
    costs = cut_costs(graph, nbytes)
    ends = find_cuts(stored, costs, limit)
    if ends is None:
        raise UsageError(
            f"there is no place to cut the model into chunks of at most {limit:,} bytes: tensors that cannot leave a"
            " chunk reach over all of them",
            hint="give --split a larger size",
        )
    builder = _Builder(graph, narrowed)
    found = []
    for k, (start, end) in enumerate(pairwise((0, *ends))):
        size = sum(dict(item for layer in stored[start:end] for item in layer.items()).values())
        cut, originals = builder.chunk(k, nodes[start:end], last=end == len(nodes))
        found.append(Chunk(cut, originals, size, 0 if end == len(nodes) else int(costs[end])))
    return found


def _expect_fits(node: Node, layer: Stored, limit: int) -> None:
    size = sum(layer.values())
    if size <= limit:
        return
    largest = max(layer.values())
    what = "a constant" if largest > limit else "constants"
    raise UsageError(
        f"{what} of {largest if largest > limit else size:,} bytes cannot be split, and a chunk may hold {limit:,}",
        where=node.describe(),
        hint="give --split a larger size, or store weights in fewer bits (--weights)",
    )


class _Builder:
    """Copies layers chunk by chunk. Names of what crosses are those of no other input or output of any chunk."""

    def __init__(self, graph: Graph, narrowed: Callable[[Value], DType | None]) -> None:
        self._graph = graph
        self._narrowed = narrowed
        self._given = dict(zip(reversed(graph.outputs), reversed(graph.output_names), strict=True))  # first names
        self._names: dict[Value, str] = {}
        self._used = {v.name for v in graph.inputs} | set(graph.output_names)

    def chunk(self, number: int, nodes: Sequence[Node], last: bool) -> tuple[Graph, dict[Value, Value]]:
        """A graph of these layers, which reads what earlier chunks gave under the names of these; the last chunk has
        those outputs too that no layer computes. Inputs that no layer reads belong to the first."""
        whole, cut = self._graph, Graph(f"{self._graph.name}_{number}")
        cut.metadata = dict(whole.metadata)
        made: dict[Value, Value] = {}
        inside = set(nodes)
        read = {v for node in nodes for v in node.inputs if v is not None}
        free = [v for v in whole.outputs if v.node is None] if last else []
        for v in whole.inputs:
            if v in read or v in free or not (number or v.is_read):
                made[v] = cut.add_input(v.type, v.name)
        for node in nodes:
            for operand in node.inputs:
                if operand is not None and operand not in made:
                    made[operand] = self._operand(cut, operand)
            _copy(cut, node, made)
        made.update((v, _constant(v)) for v in free if v not in made)
        narrow = self._finish(cut, [v for node in nodes for v in node.outputs], inside, free, made)
        return cut, {new: old for old, new in made.items()} | narrow

    def _operand(self, cut: Graph, v: Value) -> Value:
        """A constant, or an input for what an earlier chunk gives."""
        if v.data is not None:
            return _constant(v)
        narrow = None if v in self._given else self._narrowed(v)
        if narrow is None:
            return cut.add_input(v.type, self._names[v])
        given = cut.add_input(v.type.with_dtype(narrow), self._names[v])
        (wide,) = cut.add(Cast(to=v.type.dtype.name), given, names=(v.name,))
        wide.type = v.type
        return wide

    def _finish(
        self, cut: Graph, results: Sequence[Value], inside: set[Node], free: list[Value], made: dict[Value, Value]
    ) -> dict[Value, Value]:
        """Declare the outputs: those of the whole graph that are computed here, and what later chunks read. Gives what
        each is that crosses in another element type."""
        here, casts = {*results, *free}, dict[Value, Value]()
        pairs = zip(self._graph.outputs, self._graph.output_names, strict=True)
        outputs = [(made[v], name) for v, name in pairs if v in here]
        for v in results:
            if not inside.issuperset(v.users):
                if v in self._given:
                    self._names[v] = self._given[v]
                    continue
                self._names[v] = name = self._unique(v.name)
                narrow = self._narrowed(v)
                if narrow is None:
                    outputs.append((made[v], name))
                    continue
                (cast,) = cut.add(Cast(to=narrow.name), made[v], names=(name,))
                casts[cast] = v
                outputs.append((cast, name))
        cut.set_outputs([v for v, _ in outputs], [name for _, name in outputs])
        return casts

    def _unique(self, name: str) -> str:
        base = candidate = name or "value"
        k = 0
        while candidate in self._used:
            k += 1
            candidate = f"{base}_{k}"
        self._used.add(candidate)
        return candidate


def _constant(v: Value) -> Value:
    copy = Value(v.type, v.name)
    copy.data, copy.origin = v.data, v.origin
    return copy


def _copy(cut: Graph, node: Node, made: dict[Value, Value]) -> None:
    """The layer, with the annotations of its results."""
    operands = [None if v is None else made[v] for v in node.inputs]
    copies = cut.add(node.op, *operands, origin=node.origin, names=[v.name for v in node.outputs])
    for old, new in zip(node.outputs, copies, strict=True):
        new.type = old.type
        made[old] = new

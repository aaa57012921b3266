"""What layers read and compute on a few rows of data, for passes that fit weights to it.

rows = Fitting(feeds)
rows.channels(graph)        ranges and means of each channel
rows.each(graph, values)    the values, row by row
rows.stages(graph, cuts)    the values one after the other, each of which may be changed before others read it
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

from compiler.calibrate.names import value_names
from compiler.calibrate.observed import Channels
from compiler.calibrate.run import MOVES, calibrate
from compiler.graph import Graph, Node, Value
from compiler.onnx_export import export_bytes
from compiler.oracle import open_session
from compiler.subgraph import extract
from compiler.tensor import Array

Rows = list[Array]
Held = list[dict[Value, Array]]


class Fitting:
    """`feeds` are the inputs of each run."""

    def __init__(self, feeds: Iterable[Mapping[str, Array]]) -> None:
        self.feeds: Sequence[Mapping[str, Array]] = list(feeds)

    def channels(self, graph: Graph) -> dict[Value, Channels]:
        """The ranges of each channel of what convolutions, dense layers and normalisations read and compute, but for
        the results of moves, which share a record with what they move and have their channels elsewhere."""
        seen = calibrate(graph, list(self.feeds), "minmax", channels=True).values
        found = {v: seen[name].channels for v, name in value_names(graph).items() if name in seen}
        moved = {v for v in found if v.node is not None and isinstance(v.node.op, MOVES)}
        return {v: c for v, c in found.items() if c is not None and v not in moved}

    def each(self, graph: Graph, values: Sequence[Value]) -> Iterator[list[Array]]:
        """What the graph computes for these values, in floats; a list for each row."""
        made = [v for v in values if v.node is not None]
        found, leaves = extract(made, set(graph.nodes))
        session = open_session(export_bytes(found)) if made else None
        names = [f"out{i}" for i in range(len(made))]
        for feed in self.feeds:
            results = session.run(names, {f"in{i}": feed[v.name] for i, v in enumerate(leaves)}) if session else []
            known = dict(zip(made, results, strict=True))
            yield [known[v] if v in known else feed[v.name] for v in values]

    def stages(self, graph: Graph, cuts: Sequence[Value]) -> Generator[Rows, Rows | None, None]:
        """The values of `cuts`, which are in the order of their layers, on all rows; what is sent back takes the place
        of what was given for all that reads it."""
        parts = _parts(graph, cuts)
        last = {v: i for i, part in enumerate(parts) for n in part for v in n.inputs if v is not None}
        held: Held = [{v: feed[v.name] for v in graph.inputs} for feed in self.feeds]
        for i, (part, cut) in enumerate(zip(parts, cuts, strict=True)):
            gives = [v for n in part for v in n.outputs if v is cut or last.get(v, 0) > i]
            _run(held, part, gives)
            sent = yield [row[cut] for row in held]
            for row, array in zip(held, sent or (), strict=False):
                row[cut] = array
            for v in [v for v in held[0] if last.get(v, 0) <= i]:
                for row in held:
                    del row[v]


def _parts(graph: Graph, cuts: Sequence[Value]) -> list[list[Node]]:
    """The layers up to each cut, in order; those behind the last are in none."""
    ends = {v.node for v in cuts}
    parts: list[list[Node]] = [[]]
    for node in graph.nodes:
        parts[-1].append(node)
        if node in ends:
            parts.append([])
    return parts[: len(cuts)]


def _run(held: Held, part: Sequence[Node], gives: Sequence[Value]) -> None:
    cut, leaves = extract(gives, set(part))
    session = open_session(export_bytes(cut))
    names = [f"out{i}" for i in range(len(gives))]
    for row in held:
        results = session.run(names, {f"in{i}": row[v] for i, v in enumerate(leaves)})
        row.update(zip(gives, results, strict=True))

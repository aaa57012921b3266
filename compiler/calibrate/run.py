"""One pass of data through a graph, in which every value is looked at once.

    calibrate(graph, source, observer="auto") -> Calibration

The layer graph runs in ONNX Runtime with the values as outputs, cut into pieces whose outputs are of bounded size;
what later pieces read is handed on, so that no layer runs twice for a row.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from compiler.calibrate.images import ImageRule
from compiler.calibrate.names import fingerprint, value_names
from compiler.calibrate.observed import Observed
from compiler.calibrate.observers import OBSERVERS, WITHOUT_HISTOGRAM
from compiler.calibrate.record import Calibration
from compiler.calibrate.sources import Feeds
from compiler.errors import UsageError
from compiler.graph import Graph, Node, Value
from compiler.onnx_export import export_bytes
from compiler.ops.conv import Convolution
from compiler.ops.matmul import Dense, MatMul
from compiler.ops.norm import BatchNorm
from compiler.ops.shape import Reshape, Transpose
from compiler.oracle import Session, input_types, open_session
from compiler.seeds import index_limits
from compiler.simulate import simulated
from compiler.subgraph import extract
from compiler.tensor import Array

MOVES = (Reshape, Transpose)  # their results hold the numbers of their operand
OUTPUTS = 256 << 20  # bytes of outputs that a piece of the graph has about
WEIGHTS = 1 << 30  # and of constants, which are in memory twice while it is loaded
NAMED = 3  # values that a note names

Progress = Callable[[str, int], None]


def calibrate(
    graph: Graph,
    source: object,
    observer: str = "auto",
    *,
    seed: int = 0,
    images: ImageRule | None = None,
    channels: bool = False,
    start: Calibration | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Statistics of every float value of a graph on the data of a source (see `compiler.calibrate.sources.Feeds`).

    observer  how ranges are chosen; "minmax" and "average" make no histograms, and only they can be asked for then
    seed      of synthetic data
    images    how pixels become numbers
    channels  ranges for each channel too, of what convolutions and dense layers read and compute
    start     a calibration of the same graph that is continued, as if all data had come at once
    progress  told "calibrate" and about how many runs there are, before each

    UsageError for data that does not fit, VerificationError if ONNX Runtime cannot run the graph.
    """
    if observer not in ("auto", *OBSERVERS):
        raise UsageError(f"there is no observer {observer!r}", hint=f"choose one of auto, {', '.join(OBSERVERS)}")
    result = Calibration({}, observer) if start is None else start.copy(observer)
    expect_graph(result, graph)
    graph, names = _executed(graph)
    roots = {v: _root(v) for v in names if v.type.dtype.is_float and v.is_read}
    axes = _channel_axes(graph) if channels else {}
    watched = _watched(result, {v: names[v] for v in roots if roots[v] is v}, axes, observer)
    result.values = {names[v]: watched[root] for v, root in roots.items() if root in watched}
    with (
        Feeds(source, input_types(graph), images, seed, index_limits(graph)) as feeds,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        pieces: list[Piece] = []
        for feed in feeds:
            if not pieces:
                pieces = list(_pieces(graph, watched))
            if progress is not None:
                progress("calibrate", feeds.length or 0)
            result.digest = _chained(result.digest, feed)
            result.feeds += 1
            _run(graph, pieces, feed, watched, pool)
        result.rows += feeds.rows
        result.notes += [note for note in (*feeds.notes, *_doubts(result)) if note not in result.notes]
    return result


def _executed(graph: Graph) -> tuple[Graph, dict[Value, str]]:
    """What is run, and the names of its values. A graph that came with parameters is one of rounded numbers: what they
    saturate at may be all that is left of a clip."""
    names = value_names(graph)
    if not any(v.type.quant for v in names):
        return graph, names
    found = simulated(graph)
    return found.graph, {found.values[v]: name for v, name in names.items()}


def ranges_of(calibration: Calibration, graph: Graph) -> dict[Value, tuple[float, float]]:
    """The range for int8 of each value of a calibrated graph that is a float and read."""
    chosen = {v: calibration.range(n) for v, n in value_names(graph).items() if n in calibration.values}
    return {v: (r.low, r.high) for v, r in chosen.items()}


def expect_graph(calibration: Calibration, graph: Graph) -> None:
    """UsageError if the calibration says that it is of a graph with another fingerprint."""
    if calibration.graph and calibration.graph != fingerprint(graph):
        raise UsageError(
            "the saved calibration is of another graph",
            hint="save it with the same model and options, and with --repair off: repairs change the graph",
        )


def _root(v: Value) -> Value:
    """The value whose numbers it holds, perhaps in another order."""
    while v.node is not None and isinstance(v.node.op, MOVES):
        operand = v.node.inputs[0]
        if operand is None or operand.data is not None:
            break
        v = operand
    return v


def _watched(
    result: Calibration, names: Mapping[Value, str], axes: Mapping[Value, int], observer: str
) -> dict[Value, Observed]:
    """New statistics for each value, or those of the calibration that goes on; UsageError if it was of another graph
    or saw something else."""
    binned = observer not in WITHOUT_HISTOGRAM
    if not result.feeds:
        return {v: Observed(binned, axes.get(v)) for v in names}
    known = result.values
    if any(n not in known or (known[n].binned, known[n].axis) != (binned, axes.get(v)) for v, n in names.items()):
        raise UsageError(
            "the calibration to continue is of another graph, or was made with other options",
            hint="calibrate all data in one go",
        )
    return {v: known[n] for v, n in names.items()}


def _channel_axes(graph: Graph) -> dict[Value, int]:
    """The axis of channels of what convolutions read and compute, and dense layers, which have it last."""
    axes: dict[Value, int] = {}
    for node in graph.of(Dense, MatMul):
        axes.update((v, v.type.rank - 1) for v in (node.inputs[0], *node.outputs) if v is not None and v.type.rank > 1)
    for op in list(graph._by_op):
        if issubclass(op, Convolution | BatchNorm):
            axes.update((v, 1) for n in graph.of(op) for v in (n.inputs[0], *n.outputs) if v is not None)
    return axes


class Piece(NamedTuple):
    """A part of the graph that runs at once: the values it reads and gives, and those that nothing later reads."""

    session: Session
    reads: list[Value]
    gives: list[Value]
    done: set[Value]


def _pieces(graph: Graph, watched: Mapping[Value, Observed]) -> Iterator[Piece]:
    parts = list(_parts(graph, watched))
    place = {n: i for i, part in enumerate(parts) for n in part}
    last = {v: max((place[u] for u in v.users), default=-1) for n in place for v in n.outputs}
    for i, part in enumerate(parts):
        gives = [v for n in part for v in n.outputs if v.is_read and (v in watched or last[v] > i)]
        if gives:
            cut, reads = extract(gives, set(part))
            done = {v for v, n in last.items() if n <= i}
            yield Piece(open_session(export_bytes(cut)), reads, gives, done)


def _parts(graph: Graph, watched: Mapping[Value, Observed]) -> Iterator[list[Node]]:
    """Layers in order, cut where outputs or constants have become large."""
    part: list[Node] = []
    size = weight = 0
    for node in graph.nodes:
        own = sum(v.type.nbytes for v in node.outputs if v in watched)
        constants = sum(v.type.nbytes for v in node.inputs if v is not None and v.data is not None)
        if part and (size + own > OUTPUTS or weight + constants > WEIGHTS):
            yield part
            part, size, weight = [], 0, 0
        part.append(node)
        size, weight = size + own, weight + constants
    if part:
        yield part


def _run(
    graph: Graph,
    pieces: list[Piece],
    feed: Mapping[str, Array],
    watched: Mapping[Value, Observed],
    pool: ThreadPoolExecutor,
) -> None:
    """Run the pieces one after the other on one feed, and look at what they give, several values at once."""
    held = {v: feed[v.name] for v in graph.inputs}
    _look(watched, held, pool)
    for piece in pieces:
        inputs = {f"in{i}": held[v] for i, v in enumerate(piece.reads)}
        results = piece.session.run([f"out{i}" for i in range(len(piece.gives))], inputs)
        for v in piece.done:
            held.pop(v, None)
        given = dict(zip(piece.gives, results, strict=True))
        _look(watched, given, pool)
        held.update((v, array) for v, array in given.items() if v not in piece.done)


def _look(watched: Mapping[Value, Observed], given: Mapping[Value, Array], pool: ThreadPoolExecutor) -> None:
    """Each value has statistics of its own, so that the order in which threads come to them does not matter."""
    for done in [pool.submit(watched[v].update, array) for v, array in given.items() if v in watched]:
        done.result()


def _chained(digest: str, feed: Mapping[str, Array]) -> str:
    """The digest of all that was fed before, and of this."""
    hashed = sha256(digest.encode())
    for name, array in feed.items():
        hashed.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        hashed.update(repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).data)
    return hashed.hexdigest()


def _doubts(result: Calibration) -> Iterator[str]:
    """Values in which some numbers could not count."""
    odd = [name for name, seen in result.values.items() if seen.left_out]
    if odd:
        shown = ", ".join(map(repr, odd[:NAMED])) + (", ..." if len(odd) > NAMED else "")
        yield f"numbers that are NaN, infinite or beyond 1e30 were left out of the ranges of {len(odd)} values: {shown}"

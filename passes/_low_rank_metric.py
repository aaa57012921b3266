"""What errors of a layer's results matter to the layers behind it.

The metric G of a value says that an error e of its channels costs e^T G e. It goes through the graph from the end:
through a linear layer as sum of W^T G W over the taps (the Gauss-Newton matrix of a chain, with channels apart from
places, as in J. Martens, R. Grosse, Optimizing Neural Networks with Kronecker-factored Approximate Curvature, 2015),
through a rectifier by how often channels are active together, through sums to both operands. Where a layer
is of another kind, all channels count alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.tensor import Array
from passes._compression import Rows
from passes._fitted import data_of
from passes._low_rank_algebra import Root, root_of

LARGEST = 2048  # channels of a value that has a metric
PLACES = 64  # of an image, at least, that show which channels are active
TOGETHER = 512  # places that are counted at a time, about
EQUAL = 0.2  # share of the metric in which all channels count alike
RECTIFIERS: tuple[type[Op], ...] = (ops.Relu, ops.Clip, ops.LeakyRelu, ops.Gelu, ops.Silu, ops.HardSwish)
POOLS: tuple[type[Op], ...] = (ops.MaxPool, ops.AveragePool, ops.GlobalAveragePool, ops.ReduceMean, ops.Identity)

Metrics = Mapping[Value, Array]


def metrics_of(graph: Graph, rows: Rows) -> dict[Value, Array]:
    """The metric of each value for which there is one, by what rows of data show."""
    active = _activity(graph, rows)
    known: dict[Value, Array] = {}
    for node in reversed(list(graph.nodes)):
        for v in node.outputs:
            size = _channels(v)
            if size and not v.n_out:
                parts = [_through(user, v, size, known, active) for user in v.users]
                kept = [p for p in parts if p is not None]
                if kept and len(kept) == len(parts):
                    known[v] = np.sum(kept, axis=0)
    return known


def root_for(metric: Array | None) -> Root | None:
    """Roots of a metric, with some of that in which all channels count alike."""
    if metric is None or not np.isfinite(metric).all() or np.trace(metric) <= 0:
        return None
    size = len(metric)
    return root_of((1 - EQUAL) * metric * (size / np.trace(metric)) + EQUAL * np.eye(size))


def _channels(v: Value) -> int:
    """How many there are of an image [N,C,*S] or of rows [*,C]; 0: none, or too many."""
    t = v.type
    if not t.is_static or not t.dtype.is_float or t.rank < 2:
        return 0
    size = t.dims[_axis(v)]
    return size if 1 < size <= LARGEST else 0


def _axis(v: Value) -> int:
    return 1 if v.type.rank >= 4 else v.type.rank - 1


def _through(node: Node, v: Value, size: int, known: Metrics, active: Mapping[Value, Array]) -> Array | None:
    """The metric of an operand by those of the results of a layer that reads it."""
    y, op = node.outputs[0], node.op
    above = known.get(y)
    if type(op) in (ops.Conv, ops.Dense) and node.inputs[0] is v and data_of_weight(node) is not None:
        return _linear(node, size, above)
    if isinstance(op, ops.Reshape):
        return _flattened(v, y, above)
    if above is None or len(above) != size:
        return None
    if isinstance(op, RECTIFIERS):
        return np.asarray(above * active[v])
    if isinstance(op, POOLS) or (isinstance(op, ops.Add) and y.type == v.type):
        return above
    return None


def data_of_weight(node: Node) -> Array | None:
    """The constant weight of a layer that is not grouped."""
    w = node.inputs[1]
    return None if w is None or getattr(node.op, "groups", 1) > 1 else w.data


def _linear(node: Node, size: int, above: Array | None) -> Array:
    w = data_of(node.inputs[1]).astype(np.float64)
    if isinstance(node.op, ops.Dense) and not node.op.transposed:
        w = w.T
    taps = w.reshape(*w.shape[:2], -1).transpose(2, 0, 1)
    turned = taps if above is None else np.matmul(above, taps)
    return np.asarray(np.einsum("tmc,tmd->cd", taps, turned, optimize=True).reshape(size, size))


def _flattened(v: Value, y: Value, above: Array | None) -> Array | None:
    """Of an image whose channels and places become one axis."""
    if v.type.rank < 3 or y.type.rank != 2 or above is None or len(above) != v.type.size // v.type.dims[0]:
        return None
    size = v.type.dims[1]
    blocks = above.reshape(size, -1, size, len(above) // size)
    return np.asarray(np.einsum("asbs->ab", blocks))


def _activity(graph: Graph, rows: Rows) -> dict[Value, Array]:
    """Of what rectifiers read: how often each two channels of a place are above 0 together, [channels, channels]."""
    values = [n.inputs[0] for n in graph.of(*RECTIFIERS)]
    read = list(dict.fromkeys(v for v in values if v is not None and v.data is None and _channels(v)))
    sums: dict[Value, Array] = {v: np.zeros((_channels(v), _channels(v)), np.float32) for v in read}
    counts = dict.fromkeys(read, 0)
    waiting: dict[Value, list[Array]] = {v: [] for v in read}
    for i, arrays in enumerate(rows.each(graph, read) if read else ()):
        for v, x in zip(read, arrays, strict=True):
            places = np.moveaxis(x, _axis(v), -1).reshape(-1, x.shape[_axis(v)])
            waiting[v].append(places[:: max(1, len(places) // PLACES)] > 0)
            if sum(map(len, waiting[v])) >= TOGETHER or i == len(rows.feeds) - 1:
                above = np.concatenate(waiting[v]).astype(np.float32)
                sums[v] += above.T @ above
                counts[v] += len(above)
                waiting[v].clear()
    return {v: total / max(counts[v], 1) for v, total in sums.items()}

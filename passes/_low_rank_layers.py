"""Layers that multiply with a constant matrix, as low-rank splits see them, and what rows of data show of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.ops.conv import Conv, ConvTranspose
from compiler.ops.index import Gather
from compiler.ops.matmul import Dense, MatMul
from compiler.tensor import Array
from passes._compression import Rows
from passes._fitted import data_of
from passes._gram import FEWEST, MOST, NUMBERS, samples
from passes._low_rank_algebra import Root
from passes._low_rank_metric import metrics_of, root_for

LINEAR = (Conv, Dense, MatMul, Gather)
NARROW = 16  # a dense layer with fewer results is the head of a classifier, say, that needs all of them
TOGETHER = 256  # samples that are taken in at a time, about
EACH = 128  # results of those that are kept, at least, to measure their dimension
POINTS = 1024  # of all that were kept
DAMPING = 0.01  # least share of the covariance that is taken to be white
COLUMNS = 1024  # longest column of a kernel, channels times height, whose covariance is measured


class Layer(NamedTuple):
    """A dense layer, a convolution, or a table of rows that are looked up. `tensor` is its weight in float64, [results,
    inputs, *kernel]; of a table [numbers of a row, rows]."""

    name: str
    node: Node
    tensor: Array

    @property
    def matrix(self) -> Array:
        """The weight as [results, what each of them is summed over]."""
        return self.tensor.reshape(len(self.tensor), -1)

    @property
    def is_conv(self) -> bool:
        return isinstance(self.node.op, Conv)

    @property
    def is_table(self) -> bool:
        return isinstance(self.node.op, Gather)

    @property
    def weight(self) -> Value:
        v = self.node.inputs[0 if self.is_table else 1]
        assert v is not None
        return v

    @property
    def data(self) -> Value:
        """What changes from run to run."""
        v = self.node.inputs[1 if self.is_table else 0]
        assert v is not None
        return v

    @property
    def bias(self) -> Array | None:
        v = self.node.inputs[2] if len(self.node.inputs) > 2 else None
        return None if v is None else data_of(v).astype(np.float64)


def layer_of(name: str, node: Node) -> Layer:
    """The layer of a node that `refusal` has nothing against."""
    w = data_of(node.inputs[0 if isinstance(node.op, Gather) else 1]).astype(np.float64)
    flipped = isinstance(node.op, Gather | MatMul) or (isinstance(node.op, Dense) and not node.op.transposed)
    return Layer(name, node, w.T if flipped else w)


def is_linear(node: Node) -> bool:
    """Whether a layer multiplies floats with a constant matrix, or looks up its rows."""
    if isinstance(node.op, ConvTranspose):
        return _constant(node, 1)
    if isinstance(node.op, Gather):
        return _constant(node, 0) and node.op.axis == 0 and node.inputs[0].type.rank == 2  # type: ignore[union-attr]  # `_constant` says that it is there
    if isinstance(node.op, MatMul):
        return _constant(node, 1) and node.inputs[1].type.rank == 2  # type: ignore[union-attr]  # `_constant` says that it is there
    return isinstance(node.op, Conv | Dense) and _constant(node, 1)


def _constant(node: Node, index: int) -> bool:
    x, w = node.inputs[1 - index], node.inputs[index]
    return w is not None and w.data is not None and w.type.dtype.is_float and x is not None and x.data is None


def refusal(node: Node, least: int, narrow: int = NARROW) -> str | None:
    """Why a linear layer is not split; None if it may be. `least`: parameters that are worth it; `narrow`: numbers that
    a dense layer or a table reads and gives at least."""
    w = node.inputs[0 if isinstance(node.op, Gather) else 1]
    assert w is not None
    assert w.data is not None
    if isinstance(node.op, ConvTranspose):
        return "a transposed convolution is not split"
    if isinstance(node.op, Conv) and node.op.groups > 1:
        each = "its filters have one channel each" if w.type.dims[1] == 1 else "each group has few channels of its own"
        return f"a grouped convolution is not split: {each}"
    if w.type.size < least:
        return f"its {w.type.size} parameters are too few to save any worth mentioning"
    if min(w.type.dims[:2]) < (2 if isinstance(node.op, Conv) else narrow):
        return f"{min(w.type.dims[:2])} directions are too few to leave any out"
    if w.type.quant is not None or w.type.palette is not None:
        return "its weights are stored in few bits already"
    if len(w.users) > 1 or w.n_out or w.users[node] > 1:
        return "its weights are shared with other layers, which keep them"
    if any(v is not None and v.data is None for v in node.inputs[2:]):
        return "its bias is computed"
    if not node.outputs[0].type.is_static:
        return "its shape is not known; bind the dimensions"
    if _is_half(node):
        return "it is one factor of a product already"
    return None if np.isfinite(w.data).all() else "it holds numbers that are not finite"


def _is_half(node: Node) -> bool:
    """Whether nothing but a product lies between this layer and another that is linear."""
    data = node.inputs[1 if isinstance(node.op, Gather) else 0]
    before = None if data is None else data.node
    if before is not None and _leads_only_to(before, node):
        return True
    return any(_leads_only_to(node, user) for user in node.outputs[0].users)


def _leads_only_to(node: Node, user: Node) -> bool:
    """Whether a linear layer without bias is read by one other linear layer, and as its data."""
    if not is_linear(node) or not is_linear(user) or isinstance(user.op, Gather):
        return False
    y = node.outputs[0]
    return len(node.inputs) < 3 and list(y.users) == [user] and not y.n_out and user.inputs[0] is y


class Moments:
    """Sums of samples [count, numbers] and of their products."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: Array = np.zeros(0)
        self.products: Array = np.zeros((0, 0))

    def add(self, x: Array) -> None:
        x = x.astype(np.float64)
        first = not self.count
        self.sums = x.sum(0) + (0 if first else self.sums)
        self.products = x.T @ x + (0 if first else self.products)
        self.count += len(x)

    @property
    def mean(self) -> Array:
        return np.asarray(self.sums / max(self.count, 1))

    @property
    def covariance(self) -> Array:
        return np.asarray(self.products / max(self.count, 1) - np.outer(self.mean, self.mean))


class Seen:
    """Covariances of what a layer reads and computes, around the means, which a bias takes care of. `metric` holds the
    roots of what errors of its results cost; None: they cost all alike.

    results   of the results without bias, [results, results]
    inputs    of the channels, [inputs, inputs]
    columns   of a column of the kernel, [inputs * height, the same], of convolutions of images
    rows      of a table: how often each was looked up
    """

    def __init__(self, layer: Layer, metric: Root | None = None) -> None:
        self.layer = layer
        self.metric = metric
        self.results, self.inputs, self.columns = Moments(), Moments(), Moments()
        self.rows: Array = np.zeros(layer.tensor.shape[1] if layer.is_table else 0)
        self.points: list[Array] = []
        self.sums: Array = np.zeros(layer.matrix.shape[1])
        self.squares: Array = np.zeros(layer.matrix.shape[1])

    def add(self, x: Array) -> None:
        """Take in samples of what the layer multiplies its matrix with, [count, summed over]."""
        x = x.astype(np.float64)
        y = x @ self.layer.matrix.T
        self.results.add(y)
        self.points.append(y[:: max(1, len(y) // EACH)])
        self.sums, self.squares = self.sums + x.sum(0), self.squares + np.square(x).sum(0)
        shape = self.layer.tensor.shape
        if self.layer.is_conv:
            windows = x.reshape(len(x), shape[1], -1)
            self.inputs.add(windows.transpose(0, 2, 1).reshape(-1, shape[1]))
            if len(shape) == 4 and shape[1] * shape[2] <= COLUMNS:
                columns = x.reshape(len(x), *shape[1:]).transpose(0, 3, 1, 2)
                self.columns.add(columns.reshape(-1, shape[1] * shape[2]))

    def look_up(self, indices: Array) -> None:
        """Take in the rows that were looked up in a table."""
        count = len(self.rows)
        found = np.bincount(indices.reshape(-1).astype(np.int64) % count, minlength=count)
        self.rows = self.rows + found

    def settle(self) -> None:
        """Make the covariance of what was looked up."""
        rows, found = self.layer.matrix, self.results
        found.count = int(self.rows.sum())
        found.sums, found.products = rows @ self.rows, (rows * self.rows) @ rows.T

    @property
    def cloud(self) -> Array:
        """Some of the results; of a table, some of its rows."""
        points = self.layer.matrix.T if self.layer.is_table else np.concatenate(self.points)
        if len(points) <= POINTS:
            return points
        return points[np.random.default_rng(0).choice(len(points), POINTS, replace=False)]

    @property
    def variance(self) -> float:
        """The mean of the inputs' variances; of a table, how likely a row is."""
        if self.layer.is_table:
            return 1.0 / len(self.rows)
        count = max(self.results.count, 1)
        return float((self.squares / count - np.square(self.sums / count)).mean())


def shrunk(moments: Moments) -> Array:
    """A covariance, nearer to a multiple of the identity the fewer samples it is from."""
    found = moments.covariance
    size = len(found)
    share = damping(size, moments.count)
    mean = max(float(np.trace(found)) / size, 1e-30)
    return np.asarray((1 - share) * found + share * mean * np.eye(size))


def damping(size: int, count: int) -> float:
    """The share of a covariance of so many numbers, from so many samples, that is taken to be white."""
    return max(DAMPING, min(0.5, 0.1 * size / max(count, 1)))


def observed(graph: Graph, layers: Sequence[Layer], rows: Rows) -> dict[str, Seen]:
    """What rows show of the layers of a graph, by name."""
    metrics = metrics_of(graph, rows) if any(not layer.is_table for layer in layers) else {}
    found = {layer.name: Seen(layer, root_for(metrics.get(layer.node.outputs[0]))) for layer in layers}
    values = list(dict.fromkeys(layer.data for layer in layers))
    if not values:
        return found
    waiting: dict[str, list[Array]] = {layer.name: [] for layer in layers if not layer.is_table}
    for i, arrays in enumerate(rows.each(graph, values)):
        known = dict(zip(values, arrays, strict=True))
        for layer in layers:
            x = known[layer.data]
            if layer.is_table:
                found[layer.name].look_up(x)
                continue
            parts = waiting[layer.name]
            parts.append(sampled(layer, x, len(rows.feeds), i))
            if sum(map(len, parts)) >= TOGETHER or i == len(rows.feeds) - 1:
                found[layer.name].add(np.concatenate(parts))
                parts.clear()
    for layer in layers:
        if layer.is_table:
            found[layer.name].settle()
    return found


def sampled(layer: Layer, x: Array, runs: int, run: int) -> Array:
    """Some rows of what a layer multiplies its matrix with, of one of several runs; the same places on every call."""
    summed = layer.matrix.shape[1]
    enough = min(MOST, max(FEWEST, NUMBERS // max(summed, 1)))
    return samples(layer.node, x, max(1, enough // runs), np.random.default_rng(run))[0]

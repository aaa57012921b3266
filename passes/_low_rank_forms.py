"""The products that a layer is split into.

matrix   x -> r -> results: two dense layers, or a kernel with r filters and a pointwise convolution (X. Zhang et al.,
         Accelerating Very Deep Convolutional Networks, 2015)
tucker   pointwise to r channels, the kernel on these, pointwise to the results (Y.-D. Kim et al., Compression of Deep
         Convolutional Neural Networks for Fast and Low Power Mobile Applications, 2016)
spatial  height x 1 with r filters, then 1 x width (M. Jaderberg, A. Vedaldi, A. Zisserman, Speeding up Convolutional
         Neural Networks with Low Rank Expansions, 2014)
polyadic pointwise to r channels, a depthwise kernel, pointwise to the results (V. Lebedev et al., Speeding-up
         Convolutional Neural Networks Using Fine-tuned CP-Decomposition, 2015)
table    rows of r numbers, and a dense layer on what was looked up

With rows of data, each is a bottleneck that is chosen first, and a linear map from its numbers to the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from compiler.graph import Value
from compiler.ops.conv import Conv
from compiler.ops.index import Gather
from compiler.ops.matmul import Dense
from compiler.rewrite import Builder
from compiler.tensor import Array
from passes._low_rank_algebra import (
    Modes,
    Root,
    left_modes,
    modes_within,
    orthonormal_rows,
    polyadic,
    root_of,
    tucker,
    tucker_tails,
)
from passes._low_rank_layers import COLUMNS, Layer, Moments, Seen, damping, shrunk

Ranks = tuple[int, ...]
Grid = Callable[[int], Sequence[int]]  # the ranks to consider of 1 to so many
POLYADIC = 1 << 12  # results times inputs of the largest convolution for which polyadic forms are tried
FEW = 8  # ranks of a polyadic form
SIDE = 16  # ranks of each side of a Tucker form


class Start(NamedTuple):
    """A bottleneck, and what is left to fit.

    features  from samples of what the layer reads [count, summed over] to the numbers of the bottleneck
    prior     from these to the results, [results, numbers]: what fits the weights best
    rank      of the map that takes its place; 0: any
    whole     from such a map to what it makes of the layer's inputs, but for rotations
    weights   the constants of the layers: of that map, as a product [results, rank] @ [rank, numbers] if it has a rank
    """

    features: Callable[[Array], Array]
    prior: Array
    rank: int
    whole: Callable[[Array], Array]
    weights: Callable[[Array | None, Array], list[Array]]


class Form(NamedTuple):
    """One kind of split.

    shapes  of its weights, [results, inputs, *kernel] each, by its ranks
    errors  what is expected of ranks: the squared error of the results, relative to their variance
    """

    name: str
    shapes: Callable[[tuple[int, ...], Ranks], list[tuple[int, ...]]]
    errors: Callable[[Layer, Seen | None, Grid], Iterator[tuple[Ranks, float]]]
    start: Callable[[Layer, Seen | None, Ranks], Start]
    build: Callable[[Builder, Layer, Value, Sequence[Value], Value | None], Value]


def thinned(ranks: Sequence[int], count: int) -> Sequence[int]:
    """At most so many of them, ascending, in equal ratios."""
    if len(ranks) <= count:
        return ranks
    places = np.unique(np.rint(np.geomspace(1, len(ranks), count)).astype(int) - 1)
    return [ranks[i] for i in places]


def _matrix_shapes(shape: tuple[int, ...], ranks: Ranks) -> list[tuple[int, ...]]:
    return [(ranks[0], *shape[1:]), (shape[0], ranks[0], *[1] * (len(shape) - 2))]


def _tucker_shapes(shape: tuple[int, ...], ranks: Ranks) -> list[tuple[int, ...]]:
    ones = [1] * (len(shape) - 2)
    inputs, outputs = ranks
    expand = [(shape[0], outputs, *ones)] if outputs < shape[0] else []
    return [(inputs, shape[1], *ones), (min(outputs, shape[0]), inputs, *shape[2:]), *expand]


def _spatial_shapes(shape: tuple[int, ...], ranks: Ranks) -> list[tuple[int, ...]]:
    return [(ranks[0], *shape[1:3], 1), (shape[0], ranks[0], 1, shape[3])]


def _polyadic_shapes(shape: tuple[int, ...], ranks: Ranks) -> list[tuple[int, ...]]:
    ones = [1] * (len(shape) - 2)
    return [(ranks[0], shape[1], *ones), (ranks[0], 1, *shape[2:]), (shape[0], ranks[0], *ones)]


def result_modes(layer: Layer, seen: Seen | None, metric: Root | None = None) -> Modes:
    """Principal directions of the results: on rows of data, as far as they matter by a metric, or for white inputs."""
    if seen is None:
        return left_modes(layer.matrix)
    found = spread(seen.results, layer.matrix, seen.variance, layer.matrix.shape[1])
    if metric is None:
        return modes_within(found, layer.matrix)
    return modes_within(metric.root @ found @ metric.root, metric.root @ layer.matrix)


def spread(moments: Moments, a: Array, variance: float, size: int) -> Array:
    """The covariance of results, with some of that which inputs of equal variance would give them through `a`."""
    share = damping(size, moments.count)
    return np.asarray((1 - share) * moments.covariance + share * variance * (a @ a.T))


def _matrix_errors(layer: Layer, seen: Seen | None, grid: Grid) -> Iterator[tuple[Ranks, float]]:
    tail = result_modes(layer, seen, None if seen is None else seen.metric).tail()
    for r in grid(min(layer.matrix.shape)):
        if r < len(tail):
            yield (r,), float(tail[r])


def _matrix_start(layer: Layer, _seen: Seen | None, ranks: Ranks) -> Start:
    w, shape = layer.matrix, layer.tensor.shape

    def weights(u: Array | None, v: Array) -> list[Array]:
        assert u is not None
        return [(v @ w).reshape(-1, *shape[1:]), u.reshape(*u.shape, *[1] * (len(shape) - 2))]

    return Start(lambda x: x @ w.T, np.eye(len(w)), ranks[0], lambda a: a @ w, weights)


def _weighted(w: Array, seen: Seen | None) -> Array:
    """A weight [results, ...] whose errors count as much as they matter."""
    if seen is None or seen.metric is None:
        return w
    return np.asarray(np.tensordot(seen.metric.root, w, 1))


def _channel_root(layer: Layer, seen: Seen | None) -> tuple[Array, Array]:
    """Roots of the covariance of the channels."""
    if seen is None:
        return np.eye(layer.tensor.shape[1]), np.eye(layer.tensor.shape[1])
    return root_of(shrunk(seen.inputs))


def _taps(layer: Layer) -> Array:
    return layer.tensor.reshape(*layer.tensor.shape[:2], -1)


def _tucker_errors(layer: Layer, seen: Seen | None, grid: Grid) -> Iterator[tuple[Ranks, float]]:
    w = _taps(layer)
    m, c, _ = w.shape
    tails = tucker_tails(_weighted(np.einsum("mct,cd->mdt", w, _channel_root(layer, seen)[0]), seen))
    for inputs in thinned(grid(c), SIDE):
        for outputs in thinned(grid(m), SIDE):
            if inputs < c:
                yield (inputs, outputs), float(tails[outputs, inputs])


def _tucker_start(layer: Layer, seen: Seen | None, ranks: Ranks) -> Start:
    w, shape = _taps(layer), layer.tensor.shape
    root, inverse = _channel_root(layer, seen)
    white = np.einsum("mct,cd->mdt", w, root)
    q, _ = tucker(_weighted(white, seen), *ranks)
    core = np.einsum("mdt,dr->mtr", white, q)
    reduce, core = orthonormal_rows(q.T @ inverse, core)
    prior = core.transpose(0, 2, 1).reshape(len(w), -1)
    full = ranks[1] >= len(w)
    ones = [1] * (len(shape) - 2)

    def features(x: Array) -> Array:
        return np.einsum("nct,rc->nrt", x.reshape(len(x), shape[1], -1), reduce, optimize=True).reshape(len(x), -1)

    def weights(u: Array | None, v: Array) -> list[Array]:
        kernel = v.reshape(len(v), len(reduce), *shape[2:])
        return [reduce.reshape(*reduce.shape, *ones), kernel, *([] if u is None else [u.reshape(*u.shape, *ones)])]

    return Start(features, prior, 0 if full else ranks[1], np.asarray, weights)


def _columns(tensor: Array) -> Array:
    """The weight as [inputs * height, results * width]."""
    m, c, h, w = tensor.shape
    return tensor.transpose(1, 2, 0, 3).reshape(c * h, m * w)


def _column_root(layer: Layer, seen: Seen | None) -> tuple[Array, Array]:
    if seen is None or not seen.columns.count:
        size = layer.tensor.shape[1] * layer.tensor.shape[2]
        return np.eye(size), np.eye(size)
    return root_of(shrunk(seen.columns))


def _spatial_errors(layer: Layer, seen: Seen | None, grid: Grid) -> Iterator[tuple[Ranks, float]]:
    b = _columns(_weighted(layer.tensor, seen))
    tail = left_modes(_column_root(layer, seen)[0] @ b).tail()
    for r in grid(min(b.shape)):
        if r < len(tail):
            yield (r,), float(tail[r])


def _spatial_start(layer: Layer, seen: Seen | None, ranks: Ranks) -> Start:
    m, c, h, w = layer.tensor.shape
    root, inverse = _column_root(layer, seen)
    white = root @ _columns(layer.tensor)
    q = left_modes(root @ _columns(_weighted(layer.tensor, seen))).vectors[:, : ranks[0]]
    reduce, expand = orthonormal_rows(q.T @ inverse, (q.T @ white).T)
    prior = expand.reshape(m, w, -1).transpose(0, 2, 1).reshape(m, -1)
    first = reduce.reshape(-1, c, h)

    def features(x: Array) -> Array:
        return np.einsum("nchw,rch->nrw", x.reshape(len(x), c, h, w), first, optimize=True).reshape(len(x), -1)

    def weights(_u: Array | None, v: Array) -> list[Array]:
        return [first[..., None], v.reshape(m, -1, 1, w)]

    return Start(features, prior, 0, np.asarray, weights)


def _polyadic_errors(layer: Layer, seen: Seen | None, grid: Grid) -> Iterator[tuple[Ranks, float]]:
    w = _taps(layer)
    m, c, taps = w.shape
    if m * c > POLYADIC:
        return
    white = _weighted(np.einsum("mct,cd->mdt", w, _channel_root(layer, seen)[0]), seen)
    paying = m * c * taps // (m + c + taps)
    for r in thinned(grid(min(paying, 2 * max(m, c))), FEW):
        yield (r,), polyadic(white, r).error


def _polyadic_start(layer: Layer, seen: Seen | None, ranks: Ranks) -> Start:
    shape = layer.tensor.shape
    root, inverse = _channel_root(layer, seen)
    found = polyadic(_weighted(np.einsum("mct,cd->mdt", _taps(layer), root), seen), ranks[0])
    results = found.results if seen is None or seen.metric is None else seen.metric.inverse @ found.results
    inputs = found.inputs.T @ inverse
    norms = np.maximum(np.linalg.norm(inputs, axis=1), 1e-150)
    inputs, results = inputs / norms[:, None], results * norms

    def features(x: Array) -> Array:
        windows = x.reshape(len(x), shape[1], -1)
        return np.einsum("nrt,tr->nr", np.einsum("nct,rc->nrt", windows, inputs, optimize=True), found.taps)

    def weights(_u: Array | None, v: Array) -> list[Array]:
        depthwise = found.taps.T.reshape(-1, 1, *shape[2:])
        ones = [1] * (len(shape) - 2)
        return [inputs.reshape(*inputs.shape, *ones), depthwise, v.reshape(*v.shape, *ones)]

    return Start(features, results, 0, np.asarray, weights)


def build_dense(g: Builder, layer: Layer, x: Value, weights: Sequence[Value], bias: Value | None) -> Value:
    """Two dense layers; their weights are [outputs, inputs] as the layer's own is."""
    op = layer.node.op if isinstance(layer.node.op, Dense) else Dense()
    first = g.add(op, x, weights[0])
    return g.add(op, first, weights[1], *([] if bias is None else [bias]))


def build_table(g: Builder, _layer: Layer, x: Value, weights: Sequence[Value], bias: Value | None) -> Value:
    """A lookup and a dense layer."""
    rows = g.add(Gather(axis=0), weights[0], x)
    return g.add(Dense(), rows, weights[1], *([] if bias is None else [bias]))


def build_conv(g: Builder, layer: Layer, x: Value, weights: Sequence[Value], bias: Value | None) -> Value:
    """Convolutions one after the other: windows of length 1 along an axis neither step nor pad along it; of two that
    could, that with the longer window does, the first of equal ones."""
    op = layer.node.op
    assert isinstance(op, Conv)
    n = len(op.strides)
    kernel = layer.tensor.shape[2:]
    steps = [max(range(len(weights)), key=lambda i: (weights[i].type.dims[2 + a], -i)) for a in range(n)]
    for i, w in enumerate(weights):
        mine = [steps[a] == i for a in range(n)]
        assert all(w.type.dims[2 + a] == (kernel[a] if own else 1) for a, own in enumerate(mine))
        part = Conv(
            strides=tuple(s if own else 1 for s, own in zip(op.strides, mine, strict=True)),
            pads=tuple(p if own else 0 for p, own in zip(op.pads, mine * 2, strict=True)),
            dilations=tuple(d if own else 1 for d, own in zip(op.dilations, mine, strict=True)),
            groups=w.type.dims[0] if w.type.dims[1] == 1 and x.type.shape[1] == w.type.dims[0] != 1 else 1,
        )
        last = i == len(weights) - 1
        x = g.add(part, x, w, *([bias] if last and bias is not None else []))
    return x


MATRIX = Form("matrix", _matrix_shapes, _matrix_errors, _matrix_start, build_dense)
CHANNEL = Form("matrix", _matrix_shapes, _matrix_errors, _matrix_start, build_conv)
TABLE = Form("table", _matrix_shapes, _matrix_errors, _matrix_start, build_table)
TUCKER = Form("tucker", _tucker_shapes, _tucker_errors, _tucker_start, build_conv)
SPATIAL = Form("spatial", _spatial_shapes, _spatial_errors, _spatial_start, build_conv)
POLYADIC_FORM = Form("polyadic", _polyadic_shapes, _polyadic_errors, _polyadic_start, build_conv)
NAMES = ("matrix", "tucker", "spatial", "polyadic")


def forms_of(layer: Layer) -> tuple[Form, ...]:
    """The forms that a layer can be split into."""
    if layer.is_table:
        return (TABLE,)
    if not layer.is_conv:
        return (MATRIX,)
    shape = layer.tensor.shape
    if all(k == 1 for k in shape[2:]):
        return (CHANNEL,)
    spatial = len(shape) == 4 and min(shape[2:]) > 1 and shape[1] * shape[2] <= 2 * COLUMNS
    return (CHANNEL, TUCKER, *((SPATIAL,) if spatial else ()), POLYADIC_FORM)

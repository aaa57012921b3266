"""Graphs of single layers, their splits, and the weights that splits stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from compiler import ops
from compiler.calibrate.fitting import Fitting
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.tensor import Array
from passes._compression import Setting, layer_names
from passes._low_rank_layers import Layer, is_linear, layer_of
from tests.passes.composed import Net, Term


def dense_graph(w: Array, bias: Array | None = None, rows: int = 3, transposed: bool = False) -> Graph:
    """x [rows, inputs] times w [inputs, results]."""
    net = Net()
    x = net.input(rows, len(w))
    return net.returns(net(ops.Dense(transposed=transposed), x, w.T if transposed else w, bias))


def conv_graph(
    w: Array,
    bias: Array | None = None,
    *,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    dilations: tuple[int, int] = (1, 1),
    size: int = 9,
) -> Graph:
    """A convolution of two images."""
    net = Net()
    x = net.input(2, w.shape[1], size, size + 1)
    return net.returns(net(ops.Conv(strides=strides, pads=pads, dilations=dilations), x, w, bias))


def chain_graph(rng: np.random.Generator, *sizes: int) -> Graph:
    """Dense layers with rectifiers between them, and outputs [1, last]; what they read is of low dimension."""
    net = Net()
    x = net.input(1, sizes[0])
    y: Term = x
    for i, (a, b) in enumerate(pairwise(sizes)):
        y = net(ops.Dense(), y, rng.normal(size=(a, b)) / np.sqrt(a), rng.normal(size=b) * 0.1)
        y = net(ops.Relu(), y) if i < len(sizes) - 2 else y
    return net.returns(y)


def narrow_rows(rng: np.random.Generator, size: int, count: int, dimension: int) -> list[dict[str, Array]]:
    """Rows [1, size] near a space of a few dimensions, away from the origin."""
    basis, centre = rng.normal(size=(dimension, size)), rng.normal(size=size)
    points = rng.normal(size=(count, dimension)) @ basis + centre + 0.05 * rng.normal(size=(count, size))
    return [{"x0": p[None].astype(np.float32)} for p in points]


def fitting(feeds: Sequence[Mapping[str, Array]]) -> Fitting:
    """Rows to which splits are fitted."""
    return Fitting(feeds)


def only(graph: Graph) -> Layer:
    """The only linear layer of a graph."""
    ((name, node),) = ((name, node) for name, node in layer_names(graph).items() if is_linear(node))
    return layer_of(name, node)


def linear_names(graph: Graph) -> list[str]:
    """The names of the linear layers."""
    return [name for name, node in layer_names(graph).items() if is_linear(node)]


def matrix(rank: int) -> Setting:
    """The setting of a product of two matrices."""
    return {"form": "matrix", "rank": rank}


def composed(form: str, arrays: Sequence[Array]) -> Array:
    """The weight that a split stands for, [results, inputs, *kernel]."""
    if form == "spatial":
        return np.einsum("rchx,mryw->mchw", *arrays)
    if form == "polyadic":
        reduce, depthwise, expand = arrays
        return np.einsum("rc,rhw,mr->mchw", reduce[..., 0, 0], depthwise[:, 0], expand[..., 0, 0])
    if form == "tucker":
        kernel = np.einsum("oihw,ic->ochw", arrays[1], arrays[0][..., 0, 0])
        return kernel if len(arrays) == 2 else np.einsum("ochw,mo->mchw", kernel, arrays[2][..., 0, 0])
    v, u = arrays
    return np.einsum("r...,mr->m...", v, u.reshape(u.shape[:2]))


def distance(a: Graph, b: Graph, feeds: Sequence[Mapping[str, Array]]) -> float:
    """The squared error of outputs, relative to their squares."""
    error = energy = 0.0
    for feed in feeds:
        one, two = evaluate(a, dict(feed)), evaluate(b, dict(feed))
        error += sum(float(np.square(one[n].astype(np.float64) - two[n]).sum()) for n in one)
        energy += sum(float(np.square(one[n].astype(np.float64)).sum()) for n in one)
    return error / max(energy, 1e-30)

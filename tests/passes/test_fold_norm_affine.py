"""FoldNormAffine: scale and bias of normalisations in the dense layers around them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.graph import Graph
from compiler.ops.matmul import Dense
from compiler.ops.norm import LayerNorm, RmsNorm
from compiler.tensor import F16, F32, DType
from passes.fold_norm_affine import FoldNormAffine
from tests.passes.blocks import layer_norm
from tests.passes.composed import Net, Term, becomes, run, stays
from tests.passes.weighted import dense


def parameters(graph: Graph) -> tuple[bool, bool]:
    """Whether the only normalisation has a scale other than ones, and a bias."""
    (norm,) = graph.of(LayerNorm, RmsNorm)
    scale, *bias = norm.inputs[1:]
    assert scale is not None and scale.data is not None
    return bool((scale.data != 1).any()), bool(bias)


@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, True), (False, False)])
def test_dense_readers_take_both(dtype: DType, transposed: bool, biases: tuple[bool, bool]) -> None:
    net = Net(dtype)
    y = layer_norm(net.input(2, 3, 6), bias=biases[0])
    graph = net.returns(dense(y, 4, transposed=transposed, bias=biases[1]), dense(y, 5))
    becomes(FoldNormAffine(), graph, {"layer_norm": 1, "dense": 2})
    assert parameters(graph) == (False, False)


def test_an_rms_norm_has_a_scale() -> None:
    net = Net()
    graph = net.returns(dense(layer_norm(net.input(2, 6), rms=True), 4, bias=False))
    becomes(FoldNormAffine(), graph, {"rms_norm": 1, "dense": 1})
    assert parameters(graph) == (False, False)
    assert [len(n.inputs) for n in graph.of(Dense)] == [2]


@pytest.mark.parametrize("turned", [True, False])
def test_a_residual_keeps_the_scale(turned: bool) -> None:
    net = Net()
    y = layer_norm(net.input(2, 3, 6))
    inner = dense(dense(y, 8), 6)
    graph = net.returns(inner + y if turned else y + inner)
    becomes(FoldNormAffine(), graph, {"layer_norm": 1, "dense": 2, "add": 1})
    assert parameters(graph) == (True, False)


def test_a_residual_of_a_norm_without_bias_stays() -> None:
    net = Net()
    y = layer_norm(net.input(2, 3, 6), bias=False)
    stays(FoldNormAffine(), net.returns(y + dense(dense(y, 8), 6)))


def test_a_scale_that_overflows_is_declined() -> None:
    net = Net(F16)
    y = net(LayerNorm(axis=1, eps=1e-3), net.input(2, 4), np.full(4, 6e4), np.ones(4))
    graph = net.returns(net(Dense(), y, np.full((4, 2), 50.0)))
    record = run(FoldNormAffine(), graph, scale=1e-4)
    assert record.rules == [] and record.skips == ["a scaled weight overflows f16"]


OTHER: dict[str, Callable[[Term], tuple[Term, ...]]] = {
    "an output": lambda y: (y, dense(y, 4)),
    "another reader": lambda y: (dense(y, 4), y * 2),
    "added to what is read elsewhere": lambda y: (y + (inner := dense(y, 6)), inner * 2),
    "added to an input": lambda y: (dense(y, 4), y + y.net.input(2, 3, 6)),
    "added to a dense layer that spreads": lambda y: (dense(y, 4), y + dense(y.net.input(6), 6)),
    "a computed weight": lambda y: (y.net(Dense(), y, y.net.input(6, 4)),),
}


@pytest.mark.parametrize("readers", OTHER.values(), ids=OTHER.keys())
def test_others_stay(readers: Callable[[Term], tuple[Term, ...]]) -> None:
    net = Net()
    stays(FoldNormAffine(), net.returns(*readers(layer_norm(net.input(2, 3, 6)))))


def test_statistics_over_two_axes_stay() -> None:
    net = Net()
    op = LayerNorm(axis=1, eps=1e-3)
    stays(FoldNormAffine(), net.returns(dense(net(op, net.input(2, 3, 6), np.full((3, 6), 2.0)), 4)))

"""FuseDense: which products with constants are dense layers."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.matmul import Dense, MatMul
from compiler.ops.shape import Transpose
from compiler.tensor import F16, F32, I32, DType
from passes.fuse_dense import FuseDense
from tests.passes.composed import Net, becomes, run, stays

W = np.random.default_rng(0).normal(size=(4, 3))
FLIP = Transpose(perm=(1, 0))


@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 5, 4), ("n", 4)])
def test_matrices(shape: tuple[int | str, ...], dtype: DType) -> None:
    net = Net(dtype)
    graph = becomes(FuseDense(), net.returns(net(MatMul(), net.input(*shape), W)), {"dense": 1})
    assert [n.op for n in graph.nodes] == [Dense()]


def test_leading_ones() -> None:
    net = Net()
    graph = becomes(FuseDense(), net.returns(net(MatMul(), net.input(2, 5, 4), W[None])), {"dense": 1})
    assert [v.type.shape for v in graph.constants] == [(4, 3)]


def test_integers() -> None:
    net = Net(I32)
    becomes(FuseDense(), net.returns(net(MatMul(), net.input(5, 4), np.ones((4, 3), np.int32))), {"dense": 1})


def test_a_transposed_weight_is_shared_with_its_other_readers() -> None:
    net = Net()
    w = net.graph.const(W.T.astype(np.float32))
    (flipped,) = net.graph.add(FLIP, w)
    (y,) = net.graph.add(MatMul(), net.input(5, 4).value, flipped)
    net.graph.set_outputs([y, flipped], ["y", "w"])
    graph = becomes(FuseDense(), net.graph, {"dense": 1, "transpose": 1})
    assert [(n.op, n.inputs[1]) for n in graph.of(Dense)] == [(Dense(transposed=True), w)]


@pytest.mark.parametrize("transposed", [True, False])
def test_a_dense_layer_absorbs_a_transpose(transposed: bool) -> None:
    net = Net()
    y = net(Dense(transposed=transposed), net.input(5, 4), net(FLIP, W if transposed else W.T), np.ones(3))
    graph = becomes(FuseDense(), net.returns(y), {"dense": 1})
    assert [n.op for n in graph.nodes] == [Dense(transposed=not transposed)]


def test_other_products_stay() -> None:
    net = Net()
    x = net.input(2, 5, 4)
    batch = net(MatMul(), x, np.ones((2, 4, 3)))
    vector = net(MatMul(), x, np.ones(4))
    left = net(MatMul(), np.ones((3, 5)), x)
    longer = net(MatMul(), net.input(5, 4), np.ones((1, 4, 3)))
    computed = net(MatMul(), x, net.input(4, 3))
    stays(FuseDense(), net.returns(batch, vector, left, longer, computed))


def test_no_rows() -> None:
    net = Net()
    stays(FuseDense(), net.returns(net(MatMul(), net.input(3, 2, 0), np.ones((3, 0, 4)))))


def test_a_bias_keeps_its_place() -> None:
    net = Net()
    graph = net.returns(net(Dense(), net.input(5, 4), net(FLIP, W.T)))
    assert run(FuseDense(), graph).rules == ["flipped_dense"]

"""MergeSiblings: layers side by side as one."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.activation import Relu
from compiler.ops.conv import Conv
from compiler.ops.matmul import Dense
from compiler.ops.parts import Split
from compiler.tensor import F16, F32, DType
from passes.merge_siblings import MergeSiblings
from tests.passes.composed import Net, becomes, run, stays
from tests.passes.weighted import conv, dense


@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("biases", [(True, True, True), (False, True, False), (False, False, False)])
def test_convolutions(biases: tuple[bool, ...], dtype: DType) -> None:
    net = Net(dtype)
    x = net.input(1, 2, 5, 5)
    ys = [conv(x, n, bias=b) for n, b in zip((3, 1, 4), biases, strict=True)]
    graph = becomes(MergeSiblings(), net.returns(*(net(Relu(), y) for y in ys)), {"conv": 1, "split": 1, "relu": 3})
    assert [n.op for n in graph.of(Split)] == [Split(axis=1, sizes=(3, 1, 4))]
    assert [len(n.inputs) for n in graph.of(Conv)] == [2 + any(biases)]


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("shape", [(4,), (5, 4), ("n", 7, 4)])
def test_dense_layers(shape: tuple[int | str, ...], transposed: bool) -> None:
    net = Net()
    x = net.input(*shape)
    ys = [dense(x, n, transposed=transposed, bias=n > 2) for n in (2, 3)]
    graph = becomes(MergeSiblings(), net.returns(*ys), {"dense": 1, "split": 1})
    assert [n.output.type.shape[-1] for n in graph.of(Dense)] == [5]


def test_siblings_of_siblings() -> None:
    net = Net()
    x = net.input(3, 4)
    a, b = dense(x, 4), dense(x, 5)
    becomes(MergeSiblings(), net.returns(dense(a, 2), dense(a, 2), b), {"dense": 2, "split": 2})


def test_work_is_the_same() -> None:
    net = Net()
    x = net.input(1, 2, 5, 5)
    graph = net.returns(conv(x, 3), conv(x, 4))
    before = sum(n.macs for n in graph.nodes)
    run(MergeSiblings(), graph)
    assert sum(n.macs for n in graph.nodes) == before


def test_the_number_is_an_option() -> None:
    net = Net()
    x = net.input(1, 2, 5, 5)
    stays(MergeSiblings(min_siblings=3), net.returns(conv(x, 3), conv(x, 4)))


def test_others_stay() -> None:
    net = Net()
    x, y = net.input(1, 2, 5, 5), net.input(1, 2, 5, 5)
    op = Conv(strides=(1, 1), pads=(0,) * 4, dilations=(1, 1))
    padded, grouped, wide = conv(x, 2, pad=1), conv(x, 2, groups=2), net(op, x, np.ones((2, 2, 1, 3)))
    computed = net(op, x, net.input(2, 2, 2, 2))
    stays(MergeSiblings(), net.returns(conv(x, 2), conv(y, 2), padded, grouped, conv(x, 4, groups=2), wide, computed))


def test_origins_are_united() -> None:
    net = Net()
    x = net.input(2, 3).value
    w = net.graph.const(np.ones((3, 2), np.float32))
    ys = [net.graph.add(Dense(), x, w, origin=frozenset(name))[0] for name in "ab"]
    net.graph.set_outputs(ys, ["a", "b"])
    run(MergeSiblings(), net.graph)
    assert {n.origin for n in net.graph.nodes} == {frozenset("ab")}

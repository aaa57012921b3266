"""DropEmpty: tensors without elements, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.ops import Add, Concat, MatMul, Pad, ReduceMax, ReduceProd, ReduceSum, Relu, Reshape, Slice, Split
from compiler.tensor import F32, I64, TensorType
from passes import DropEmpty
from tests.passes.composed import Net, Term, becomes, run, stays

KNOWN: dict[str, tuple[Callable[[Net], Term], np.ndarray[tuple[int, ...], np.dtype[np.float32]]]] = {
    "a sum over nothing": (lambda net: net(ReduceSum(axes=(1,)), net.input(2, 0)), np.zeros((2, 1), np.float32)),
    "a product over nothing": (lambda net: net(ReduceProd(axes=(1,)), net.input(2, 0)), np.ones((2, 1), np.float32)),
    "the largest of nothing": (
        lambda net: net(ReduceMax(axes=(0,), keepdims=False), net.input(0, 3)),
        np.full(3, -np.inf, np.float32),
    ),
    "a product of empty matrices": (
        lambda net: net(MatMul(), net.input(2, 0), net.input(0, 3)),
        np.zeros((2, 3), np.float32),
    ),
    "padded": (lambda net: net(Pad(pads=(1, 0), value=5.0), net.input(0)), np.full(1, 5, np.float32)),
    "nothing at all": (lambda net: net(Relu(), net.input(0, 4)), np.zeros((0, 4), np.float32)),
    "a slice of nothing": (
        lambda net: net(Slice.of(TensorType(F32, (6,)), [0], [3], [3]), net.input(6)),
        np.zeros(0, np.float32),
    ),
    "another shape of nothing": (lambda net: net(Reshape(shape=(3, 0)), net.input(0, 2)), np.zeros((3, 0), np.float32)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_it_is_a_constant(name: str) -> None:
    make, expected = KNOWN[name]
    net = Net()
    graph = becomes(DropEmpty(), net.returns(make(net)), {})
    data = graph.outputs[0].data
    assert data is not None and data.dtype == expected.dtype and np.array_equal(data, expected)


def test_what_is_joined_with_nothing() -> None:
    net = Net()
    x, y = net.input(2, 3), net.input(2, 4)
    graph = becomes(DropEmpty(), net.returns(net(Concat(axis=1), x, net.input(2, 0), y)), {"concat": 1})
    (node,) = graph.nodes
    assert [v.type.shape for v in node.inputs if v is not None] == [(2, 3), (2, 4)]


def test_parts_with_elements_stay() -> None:
    net = Net()
    first, none, last = net.many(Split(axis=0, sizes=(2, 0, 3)), net.input(5))
    graph = becomes(DropEmpty(), net.returns(first, none, last), {"split": 1})
    assert [v.data is None for v in graph.outputs] == [True, False, True]


def test_chains() -> None:
    net = Net(I64)
    x = net(Add(), net(Relu(), net.input(2, 0)), np.array(1))
    run(DropEmpty(), graph := net.returns(net(ReduceSum(axes=(0, 1)), x)))
    assert len(graph) == 0


def test_what_has_elements_stays() -> None:
    net = Net()
    stays(DropEmpty(), net.returns(net(Concat(axis=0), net.input(1, 2), net.input(3, 2))))
    net = Net()
    stays(DropEmpty(), net.returns(net(Relu(), net.input("n", 2))))

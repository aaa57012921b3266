"""EliminateCommon: equal constants and equal layers."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.activation import Clip, Relu
from compiler.ops.elementwise import Add, Sub
from compiler.ops.matmul import MatMul
from compiler.ops.parts import Split
from compiler.tensor import F16
from passes.eliminate_common import EliminateCommon
from tests.passes.composed import Net, Record, Term, becomes, run, stays


def constant(net: Net, a: np.ndarray, name: str = "") -> Term:
    return Term(net, net.graph.const(a, name, frozenset((name,)) if name else frozenset()))


def test_equal_layers_are_one_through_the_whole_graph() -> None:
    net = Net()
    x = net.input(3)
    a, b = (net(Relu(), net(Add(), x, 1.0)) for _ in range(2))
    becomes(EliminateCommon(), net.returns(net(Sub(), a, b)), {"add": 1, "relu": 1, "sub": 1})


def test_swapped_operands_of_a_commutative_layer() -> None:
    net = Net()
    x, y = net.input(3), net.input(3)
    becomes(EliminateCommon(), net.returns(net(Add(), x, y), net(Add(), y, x)), {"add": 1})


def test_swapped_operands_of_others_stay() -> None:
    net = Net()
    x, y = net.input(3), net.input(3)
    stays(EliminateCommon(), net.returns(net(Sub(), x, y), net(Sub(), y, x)))


def test_other_attributes_stay() -> None:
    net = Net()
    x = net.input(3)
    stays(EliminateCommon(), net.returns(net(Clip(low=0.0, high=1.0), x), net(Clip(low=0.0, high=2.0), x)))


def test_layers_of_several_results() -> None:
    net = Net()
    x = net.input(4)
    a, b = (net.many(Split(axis=0, sizes=(1, 3)), x) for _ in range(2))
    graph = becomes(EliminateCommon(), net.returns(a[1], b[1], b[0]), {"split": 1})
    assert graph.outputs[0] is graph.outputs[1]


def test_impure_layers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Relu, "pure", False)
    net = Net()
    x = net.input(3)
    stays(EliminateCommon(), net.returns(net(Relu(), x), net(Relu(), x)))


@pytest.mark.parametrize("shape", [(3,), (40, 50), (700, 600)])
def test_equal_constants_are_one(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    net = Net()
    data = rng.normal(size=shape).astype(np.float32)
    a, b = constant(net, data, "a"), constant(net, data.T.copy().T, "b")
    graph = net.returns(net.input(*shape) + a, net.input(*shape) * b)
    assert run(EliminateCommon(), graph).rules == ["constants"]
    (kept,) = graph.constants
    assert kept.origin == {"a", "b"}


@pytest.mark.parametrize("at", [(0, 0), (333, 77), (699, 599)])
def test_one_other_element_keeps_large_constants_apart(at: tuple[int, int]) -> None:
    net = Net()
    data = np.ones((700, 600), np.float32)
    other = data.copy()
    other[at] = np.nextafter(np.float32(1), np.float32(2))
    stays(
        EliminateCommon(),
        net.returns(net.input(700, 600) + constant(net, data), net.input(700, 600) * constant(net, other)),
    )


def test_type_shape_and_sign_of_zero_keep_constants_apart() -> None:
    net = Net()
    zeros = [np.zeros(2, np.float32), -np.zeros(2, np.float32), np.zeros((1, 2), np.float32)]
    half = net.input(2, dtype=F16) + constant(net, np.zeros(2, np.float16))
    stays(EliminateCommon(), net.returns(half, *(net.input(1, 2) + constant(net, z) for z in zeros)))


def test_not_a_number_equals_itself() -> None:
    net = Net()
    nan = np.full(2, np.nan, np.float32)
    graph = net.returns(net.input(2) + constant(net, nan), net.input(2) * constant(net, nan.copy()))
    assert EliminateCommon().run(graph, Record()) == 1
    assert len(graph.constants) == 1


def test_a_constant_and_its_transpose_stay_apart() -> None:
    net = Net()
    data = np.arange(90_000, dtype=np.float32).reshape(300, 300)
    x = net.input(300, 300)
    stays(
        EliminateCommon(), net.returns(net(MatMul(), x, constant(net, data)), net(MatMul(), x, constant(net, data.T)))
    )

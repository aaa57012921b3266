"""StoreHalves: what becomes 16 bits, and what 16 bits would make wrong."""

from __future__ import annotations

import numpy as np
import pytest

from compiler import ops
from compiler.compare import compare
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.rewrite import Unobserved
from compiler.tensor import F16, F32, F64, I64
from passes.store_halves import StoreHalves
from tests.passes.composed import Net, inputs_of, run, stays

WEIGHTS = np.random.default_rng(0).normal(size=(16, 8))


def kinds(graph: Graph) -> list[tuple[str, str]]:
    """Each layer with the type of its result."""
    return [(n.op.name, n.output.type.dtype.name) for n in graph.nodes]


def test_layers_between_ports_become_halves_and_constants_with_them() -> None:
    net = Net()
    x = net.input(4, 16)
    graph = net.returns(net(ops.Relu(), net(ops.MatMul(), x, WEIGHTS) + 0.5))
    feeds = inputs_of(graph)
    before = evaluate(graph, feeds)
    run(StoreHalves(), graph)
    assert kinds(graph) == [("cast", "f16"), ("matmul", "f16"), ("add", "f16"), ("relu", "f16"), ("cast", "f32")]
    assert {c.type.dtype for c in graph.constants} == {F16}
    assert graph.inputs[0].type.dtype is F32 and graph.outputs[0].type.dtype is F32
    assert 50 < compare("y", before["y0"], evaluate(graph, feeds)["y0"]).psnr_db < 100


def test_an_input_is_cast_once() -> None:
    net = Net()
    x = net.input(4, 16)
    graph = net.returns(x * 2.0, net(ops.Tanh(), x))
    run(StoreHalves(), graph)
    assert graph.op_counts == {"cast": 3, "mul": 1, "tanh": 1}


def test_halves_and_doubles_of_the_model_stay() -> None:
    net = Net()
    x, y = net.input(3, dtype=F16), net.input(3, dtype=F64)
    stays(StoreHalves(), net.returns(net(ops.Relu(), x), net(ops.Relu(), y)))


def test_casts_of_halves_are_read_through() -> None:
    net = Net()
    graph = net.returns(net(ops.Relu(), net(ops.Cast(to="f32"), net.input(3, dtype=F16))))
    run(StoreHalves(), graph)
    assert kinds(graph) == [("relu", "f16"), ("cast", "f32")]


def test_integers_become_halves_at_once() -> None:
    net = Net()
    graph = net.returns(net(ops.Cast(to="f32"), net.input(3, dtype=I64)) * 0.25)
    run(StoreHalves(), graph)
    assert kinds(graph) == [("cast", "f16"), ("mul", "f16"), ("cast", "f32")]


@pytest.mark.parametrize("mask", [-1e9, float(np.finfo(np.float32).min)])
def test_constants_beyond_halves_keep_their_layers_up_to_where_values_are_small_again(mask: float) -> None:
    net = Net()
    x = net.input(2, 4)
    hidden = np.array([[0.0, 0.0, mask, 0.0]])
    probabilities = net(ops.Softmax(axis=1), net(ops.Neg(), x) + hidden)
    graph = net.returns(net(ops.Relu(), probabilities))
    feeds = inputs_of(graph)
    before = evaluate(graph, feeds)["y0"]
    run(StoreHalves(), graph)
    made = [kind for kind in kinds(graph) if kind[0] != "cast"]
    assert made == [("neg", "f16"), ("add", "f32"), ("softmax", "f32"), ("relu", "f16")]
    assert np.abs(before - evaluate(graph, feeds)["y0"]).max() < 2e-3


def test_infinite_constants_are_infinite_halves() -> None:
    net = Net()
    graph = net.returns(net(ops.Max(), net.input(3), np.array(-np.inf)))
    run(StoreHalves(), graph)
    assert ("max", "f16") in kinds(graph)


@pytest.mark.parametrize("eps", [1e-12, 1e-10])
def test_small_constants_keep_their_layers_up_to_the_division(eps: float) -> None:
    net = Net()
    x = net.input(2, 4)
    total = net(ops.ReduceSum(axes=(1,)), x * x)
    graph = net.returns(net(ops.Relu(), x / net(ops.Sqrt(), total + eps)))
    run(StoreHalves(), graph)
    made = [kind for kind in kinds(graph) if kind[0] != "cast"]
    assert made == [
        ("mul", "f16"),
        ("reduce_sum", "f16"),
        ("add", "f32"),
        ("sqrt", "f32"),
        ("div", "f32"),
        ("relu", "f16"),
    ]
    zeros = evaluate(graph, {"x0": np.zeros((2, 4), np.float32)})["y0"]
    assert np.array_equal(zeros, np.zeros((2, 4)))


def test_what_leads_to_integers_alone_stays() -> None:
    net = Net()
    x = net.input(5)
    places = net(ops.Cast(to="i64"), net(ops.Floor(), x * 3000.0))
    stays(StoreHalves(), net.returns(places))


def test_what_leads_to_a_logarithm_alone_stays_and_products_that_are_few() -> None:
    net = Net()
    x = net.input(4, 16)
    power = net(ops.MatMul(), x, WEIGHTS) ** 2.0
    loud = net(ops.Log(), net(ops.ReduceSum(axes=(0,)), power))
    graph = net.returns(net(ops.MatMul(), net(ops.Tanh(), loud), np.ones((8, 512))))
    run(StoreHalves(), graph)
    made = [kind for kind in kinds(graph) if kind[0] != "cast"]
    names = ["matmul", "pow", "reduce_sum", "log"]
    assert made == [*((name, "f32") for name in names), ("tanh", "f16"), ("matmul", "f16")]


def test_layers_that_a_target_does_not_take_stay() -> None:
    net = Net()
    graph = net.returns(net(ops.Tanh(), net(ops.Relu(), net.input(3))))
    run(StoreHalves(takes=lambda node: not isinstance(node.op, ops.Tanh)), graph)
    assert kinds(graph) == [("cast", "f16"), ("relu", "f16"), ("cast", "f32"), ("tanh", "f32")]


def test_the_pass_stops_where_it_is_told() -> None:
    net = Net()
    graph = net.returns(net(ops.Tanh(), net(ops.Relu(), net.input(3))))

    class Once(Unobserved):
        left = 1

        def allow(self) -> bool:
            self.left -= 1
            return self.left >= 0

    assert StoreHalves().run(graph, Once()) == 1
    graph.verify()
    assert kinds(graph) == [("cast", "f16"), ("relu", "f16"), ("cast", "f32"), ("tanh", "f32")]


def test_probabilities_that_are_given_out_are_computed_in_32_bits() -> None:
    net = Net()
    x = net.input(64, 16)
    features = net(ops.Relu(), net(ops.MatMul(), x, np.tile(WEIGHTS, (1, 8))))
    scores = net(ops.Sigmoid(), net(ops.MatMul(), features, np.full((64, 2), 0.125)) - 9.0)
    graph = net.returns(net(ops.Transpose(perm=(1, 0)), scores))
    feeds = inputs_of(graph)
    before = evaluate(graph, feeds)
    run(StoreHalves(), graph)
    assert [kind for kind in kinds(graph) if kind[0] in ("matmul", "sigmoid")] == [
        ("matmul", "f16"), ("matmul", "f32"), ("sigmoid", "f32")
    ]  # fmt: skip
    assert compare("y", before["y0"], evaluate(graph, feeds)["y0"]).psnr_db > 50


def test_a_sigmoid_inside_of_the_model_becomes_halves() -> None:
    net = Net()
    x = net.input(4, 16)
    graph = net.returns(x * net(ops.Sigmoid(), x))
    run(StoreHalves(), graph)
    assert ("sigmoid", "f16") in kinds(graph)

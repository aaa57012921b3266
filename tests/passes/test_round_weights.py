"""RoundWeights: weights on the grid, with which layers err less than with the nearest ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.graph import Graph, Value
from compiler.quantize import dequantized, quantized
from compiler.tensor import I4, Array
from passes._gram import Gram, as_rows, from_rows, is_matrix, samples, together
from passes._rounding import errors, rounded
from passes._weight_choice import choose
from passes.round_weights import RoundWeights
from tests.passes.composed import Net, Record, Term
from tests.passes.repairing import Sceptic, annotated, convolution, declined, judge_of, run
from tests.passes.weighted import dense


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    groups=st.sampled_from([1, 3]),
    results=st.integers(1, 9),
    inputs=st.integers(1, 80),
    bits=st.sampled_from([3, 4, 8]),
)
def test_outputs_err_less_than_with_the_nearest_weights(
    seed: int, groups: int, results: int, inputs: int, bits: int
) -> None:
    rng = np.random.default_rng(seed)
    limit = 2 ** (bits - 1) - 1
    w = rng.normal(size=(groups, results, inputs)).astype(np.float32)
    mixed = rng.normal(size=(groups, inputs, inputs)) * np.geomspace(1, 0.01, inputs)
    x = np.maximum(rng.normal(size=(groups, 50 * inputs, inputs)) @ mixed, 0).astype(np.float32)
    step = np.broadcast_to(np.abs(w).max(-1, keepdims=True) / limit, w.shape).astype(np.float32)
    h = np.matmul(x.transpose(0, 2, 1), x)
    made = rounded(w, step, limit, [h], x.shape[1])
    places = made / step
    assert np.abs(places - np.rint(places)).max() < 1e-3
    assert np.abs(places).max() <= limit + 1e-3
    nearest = np.rint(w / step) * step
    ours, theirs = errors(made - w, h).sum(), errors(nearest - w, h).sum()
    assert ours <= theirs * (1.001 if inputs < 4 else 1.0)  # H is damped; with one or two inputs there is no choice


def test_correlated_inputs_allow_much() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 2000, 4)) @ rng.normal(size=(1, 4, 64)) + 0.01 * rng.normal(size=(1, 2000, 64))
    w = rng.normal(size=(1, 16, 64)).astype(np.float32)
    step = np.full(w.shape, 0.05, np.float32)
    h = np.matmul(x.transpose(0, 2, 1), x).astype(np.float32)
    ours = errors(rounded(w, step, 127, [h], 2000) - w, h).sum()
    assert ours < 0.1 * errors(np.rint(w / step) * step - w, h).sum()


def layers() -> dict[str, Graph]:
    """One layer of each kind with a constant matrix."""
    rng = np.random.default_rng(0)
    nets = {name: Net() for name in ("conv", "grouped", "depthwise", "dense", "transposed", "matmul")}
    image = {name: nets[name].input(1, 6, 7, 7) for name in ("conv", "grouped", "depthwise")}
    rows = {name: nets[name].input(1, 9, 12) for name in ("dense", "transposed", "matmul")}
    made = {
        "conv": convolution(image["conv"], 5, rng),
        "grouped": convolution(image["grouped"], 4, rng, groups=2, pad=0),
        "depthwise": convolution(image["depthwise"], 12, rng, groups=6),
        "dense": dense(rows["dense"], 7),
        "transposed": dense(rows["transposed"], 7, transposed=True),
        "matmul": nets["matmul"](ops.MatMul(), rows["matmul"], rng.normal(size=(12, 7))),
    }
    return {name: nets[name].returns(y) for name, y in made.items()}


@pytest.mark.parametrize("kind", layers())
def test_rows_of_x_times_rows_of_weights_are_the_results(kind: str) -> None:
    graph = layers()[kind]
    (node,) = graph.nodes
    assert is_matrix(node)
    x = np.random.default_rng(1).normal(size=graph.inputs[0].type.dims).astype(np.float32)
    weight = data(node.inputs[1])
    xs, ws = samples(node, x, 10**6, np.random.default_rng(0)), as_rows(node, weight)
    products = np.matmul(xs, ws.transpose(0, 2, 1))  # [groups, rows, results]
    bias = data(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(ws.shape[0] * ws.shape[1])
    expected = node.op.evaluate(*(x, weight, *([bias.astype(np.float32)] if len(node.inputs) > 2 else [])))
    channels = products.transpose(0, 2, 1).reshape(-1, products.shape[1]) + bias[:, None]
    flat = expected[0].reshape(len(channels), -1) if isinstance(node.op, ops.Conv) else expected[0].T
    np.testing.assert_allclose(channels, flat, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(from_rows(node, ws, weight.shape), weight)
    assert samples(node, x, 4, np.random.default_rng(0)).shape[1] == 4


def test_the_statistics_of_parts_add_up() -> None:
    rows = np.random.default_rng(0).normal(size=(1, 30, 700))
    gram = Gram()
    gram.add(rows[:, :10])
    gram.add(rows[:, 10:])
    assert [b.shape for b in gram.blocks] == [(1, 512, 512), (1, 188, 188)]
    assert gram.count == 30
    np.testing.assert_allclose(gram.blocks[1], rows[..., 512:].transpose(0, 2, 1) @ rows[..., 512:])


def data(v: Value | None) -> Array:
    assert v is not None
    assert v.data is not None
    return v.data


def network() -> Graph:
    rng = np.random.default_rng(2)
    net = Net()
    x = net(ops.Relu(), convolution(net.input(1, 4, 8, 8), 8, rng))
    x = net(ops.Relu(), convolution(x, 8, rng, groups=8))
    return net.returns(convolution(x, 4, rng))


def test_the_pass_leaves_weights_that_rounding_keeps() -> None:
    graph = network()
    judge = judge_of(graph)
    annotated(graph, judge)
    for weight in (n.inputs[1] for n in graph.nodes if n.op.name == "conv"):  # few bits, so that the weights matter
        assert weight is not None and weight.type.quant is not None
        q = weight.type.quant
        weight.type = weight.type._replace(quant=q._replace(dtype=I4, scale=tuple(s * 127 / 7 for s in q.scale)))
    score = judge.score(graph)
    record = run(RoundWeights(judge=judge), graph)
    assert record.rules[0].startswith("3 weights: ")
    assert judge.score(graph) > score + 1
    for node in graph.nodes:
        if node.op.name == "conv":
            v = node.inputs[1]
            assert v is not None and v.type.quant is not None
            again = dequantized(quantized(data(v), v.type.quant, narrow=True), v.type.quant)
            np.testing.assert_allclose(again, data(v), rtol=1e-6)
    assert judge.floats is not None
    assert judge.floats.constants[0].data is not graph.constants[0].data


def test_what_does_not_help_is_declined_with_its_decibels() -> None:
    graph = annotated(network(), judge_of(network()))
    judge = Sceptic(graph)
    judge.floats = graph.clone()
    assert declined(RoundWeights(judge=judge), graph) == "3 weights -0.50 dB on 8 rows, from 30.00 dB"


def test_without_a_judge_or_integers_nothing_happens() -> None:
    graph = network()
    assert RoundWeights().run(graph, Record()) == 0
    assert RoundWeights(judge=judge_of(graph)).run(graph, Record()) == 0


def test_weights_without_elements_are_none() -> None:
    net = Net()
    none = net(ops.Dense(), net.input(2, 8), np.zeros((8, 0)))
    graph = net.returns(net(ops.Dense(), none, np.zeros((0, 4)), np.ones(4)))
    assert not any(map(is_matrix, graph.nodes))


def test_layers_with_one_weight_keep_one() -> None:
    net, rng = Net(), np.random.default_rng(4)
    weight = Term(net, net.graph.const(rng.normal(size=(16, 16)).astype(np.float32) / 4))
    x = net.input(4, 16)
    for _ in range(3):
        x = net(ops.Tanh(), net(ops.Dense(), x, weight))
    graph = net.returns(x)
    judge = judge_of(graph)
    annotated(graph, judge)
    chosen = choose(graph, judge.rows(graph))
    assert list(chosen) == graph.of(ops.Dense)
    first, *others = chosen.values()
    assert not np.array_equal(first, data(weight.value))
    assert all(array is first for array in others)


def test_rows_of_several_layers_count_together() -> None:
    rng = np.random.default_rng(0)
    rows, one, two, both = rng.normal(size=(1, 30, 600)), Gram(), Gram(), Gram()
    one.add(rows[:, :10])
    two.add(rows[:, 10:])
    both.add(rows)
    found = together([one, two])
    assert found.count == both.count == 30
    for a, b in zip(found.blocks, both.blocks, strict=True):
        np.testing.assert_allclose(a, b)

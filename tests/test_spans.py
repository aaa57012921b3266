"""Spans of float values: what is computed lies in them, and they are as narrow as they should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.op import Op
from compiler.span import SPAN_RULES
from compiler.spans import ANY, Span, Spans
from compiler.tensor import Array
from tests.one_op import layer_inputs, one_layer
from tests.passes.composed import Net
from tests.strategies import random_graph, random_inputs, seeds


def assert_inside(graph: Graph, feeds: dict[str, Array], scale: float = 1.0) -> None:
    """Every float that is computed from (scaled) inputs lies in its span, NaN aside."""
    values = [v for node in graph.nodes for v in node.outputs if v.type.dtype.is_float]
    found = Spans(graph)
    graph.set_outputs(values, [f"y{i}" for i in range(len(values))])
    scaled = {k: (a * scale).astype(a.dtype) if a.dtype.kind == "f" else a for k, a in feeds.items()}
    with np.errstate(all="ignore"):
        results = evaluate(graph, scaled)
    for v, result in zip(values, results.values(), strict=True):
        array = result.astype(np.float64)
        array = array[~np.isnan(array)]
        inside = not array.size or found[v].holds(Span(float(array.min()), float(array.max())))
        assert inside, f"{v.node!r} gives {array.min()} to {array.max()}, outside {found[v]}"


@pytest.mark.parametrize("op", list(SPAN_RULES), ids=lambda op: op.name)
def test_every_rule_on_random_layers(op: type[Op]) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        graph = one_layer(op, rng)
        if graph is not None:
            assert_inside(graph, layer_inputs(rng, graph))


@settings(deadline=None, max_examples=200)
@given(seed=seeds(), layers=st.integers(1, 12), scale=st.sampled_from([1.0, 1e-3, 300.0, 1e6]))
def test_what_random_graphs_compute_is_inside(seed: int, layers: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, layers, floats_only=True)
    assert_inside(graph, random_inputs(rng, graph), scale)


def test_bounded_layers_bound_what_follows() -> None:
    net = Net()
    weight = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)
    y = net(ops.Dense(), net(ops.Sigmoid(), net.input(5, 2)), weight, np.array([0.5, 0.0], np.float32))
    graph = net.returns(y)
    found = Spans(graph)[graph.outputs[0]]
    assert found.holds(Span(-2.0, 4.5))
    assert Span(-2.001, 4.501).holds(found)


def test_a_normalisation_is_bounded_by_the_root_of_its_length() -> None:
    net = Net()
    y = net(ops.LayerNorm(axis=1), net.input(3, 64), np.full(64, 2.0, np.float32), np.ones(64, np.float32))
    graph = net.returns(y)
    found = Spans(graph)[graph.outputs[0]]
    assert Span(-15.1, 17.1).holds(found)
    assert found.holds(Span(-14.5, 16.5))


def test_a_square_is_not_negative_and_inputs_may_be_told() -> None:
    net = Net()
    x = net.input(4)
    graph = net.returns(x * x)
    assert Spans(graph)[graph.outputs[0]].low == 0
    told = Spans(graph, {"x0": Span(-3.0, 2.0)})[graph.outputs[0]]
    assert told.holds(Span(0.0, 9.0))
    assert told.high < 9.01
    assert Spans(graph)[graph.inputs[0]] == ANY


def test_what_leaves_32_bits_is_infinite() -> None:
    net = Net()
    x = net(ops.Sigmoid(), net.input(4)) * 3e38
    graph = net.returns(x * 4.0)
    assert np.isinf(Spans(graph)[graph.outputs[0]].high)

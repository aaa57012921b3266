"""What 16-bit floats do to a graph: planted faults are found, and what is proved harmless is not named."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.halves import ADVICE, Limits, Risk, risks, told
from compiler.magnitudes import magnitudes
from compiler.tensor import Array
from tests.passes.composed import Net, Term

LIMITS = Limits(accumulator=32768.0, product_exponent=-17, sliced=4094.0)


def values_of(graph: Graph, feeds: dict[str, Array]) -> dict[Value, Array]:
    """Every value of a run."""
    twin = graph.clone()
    values = [v for node in twin.nodes for v in node.outputs]
    twin.set_outputs(values, [f"y{i}" for i in range(len(values))])
    results = evaluate(twin, feeds).values()
    own = [v for node in graph.nodes for v in node.outputs]
    return {**dict(zip(own, results, strict=True)), **{v: feeds[v.name] for v in graph.inputs}}


def found(graph: Graph, scale: float | None = None, limits: Limits = LIMITS) -> dict[str, Risk]:
    """Risks by kind, with what normal inputs of a scale show."""
    if scale is None:
        return {r.kind: r for r in risks(graph, limits)}
    rng = np.random.default_rng(0)
    feeds = {v.name: (rng.standard_normal(v.type.dims) * scale).astype(np.float32) for v in graph.inputs}
    return {r.kind: r for r in reversed(risks(graph, limits, values_of(graph, feeds)))}


def net_of(*shape: int) -> tuple[Net, Term]:
    net = Net()
    return net, net.input(*shape)


@settings(deadline=None, max_examples=30)
@given(exponent=st.integers(-10, 30))
def test_sums_of_products_are_named_from_the_bound_on(exponent: int) -> None:
    net, x = net_of(4, 8)
    graph = net.returns(net(ops.Dense(), x, np.full((8, 3), 2.0**exponent, np.float32)))
    peak = np.abs(np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32).sum(1)).max() * 2.0**exponent
    risk = found(graph, 1.0)["accumulator"]
    assert risk.status == ("seen" if peak > 32768 else "possible")


def test_the_three_kinds_of_certainty_are_apart() -> None:
    net, x = net_of(4, 8)
    bounded = net(ops.Sigmoid(), x)
    graph = net.returns(bounded + 1e5, bounded * 6e4, x * 2.0)
    by_node = {r.node.outputs[0]: r.status for r in risks(graph, LIMITS) if r.kind == "overflow"}
    proved, never, possible = graph.outputs
    assert by_node == {proved: "proved", possible: "possible"}
    assert never not in by_node
    status = {r.node.outputs[0]: r.status for r in risks(graph, LIMITS, values_of(graph, seen_feed(1e5)))}
    assert status[possible] == "seen"


def seen_feed(scale: float) -> dict[str, Array]:
    return {"x0": (np.random.default_rng(1).standard_normal((4, 8)) * scale).astype(np.float32)}


PLANTED: dict[str, tuple[Callable[[Net, Term], Term], float]] = {
    "exp": (lambda net, x: net(ops.Exp(), x), 12.0),
    "square": (lambda net, x: net(ops.RmsNorm(axis=1), x, np.ones(8, np.float32)), 400.0),
    "divisor": (lambda net, x: x / (net(ops.Abs(), x) * 1e-9), 1.0),
    "underflow": (lambda net, x: net(ops.Relu(), x) * 1e-6, 1.0),
    "products": (lambda net, x: net(ops.Dense(), x, np.full((8, 2), 1e-4, np.float32)), 1e-3),
    "cancellation": (lambda _, x: (x + 1e4) - 1e4, 1.0),
    "slice": (lambda net, x: net(ops.Slice(starts=(0, 2), ends=(4, 8), steps=(1, 1)), x), 1e4),
    "epsilon": (lambda net, x: net(ops.LayerNorm(axis=1, eps=1e-12), x, np.ones(8, np.float32)), 1.0),
    "lost constant": (lambda net, x: net(ops.Log(), net(ops.Abs(), x) + 1e-10), 1.0),
    "constant": (lambda _, x: x + 1e9, 1.0),
    "input": (lambda net, x: net(ops.Tanh(), x), 1e5),
    "log": (lambda net, x: net(ops.Log(), net(ops.Relu(), x) * 1e-9), 1.0),
    "overflow": (lambda _, x: x * x, 500.0),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_faults_are_found(kind: str) -> None:
    make, scale = PLANTED[kind]
    net, x = net_of(4, 8)
    risk = found(net.returns(make(net, x)), scale)[kind]
    assert risk.status in ("seen", "proved")
    assert risk.advice == ADVICE[kind]
    assert kind in str(risk)


def test_ordinary_numbers_are_not_named() -> None:
    net, x = net_of(4, 8)
    y = net(ops.Dense(), x, np.full((8, 8), 0.3, np.float32), np.zeros(8, np.float32))
    graph = net.returns(net(ops.Softmax(axis=1), net(ops.LayerNorm(axis=1), y, np.ones(8, np.float32))))
    assert told(list(found(graph, 1.0).values())) == []


def test_what_is_too_small_counts_where_it_is_not_added_to_more() -> None:
    for rest, named in ((1.0, False), (1e-6, True)):
        net, x = net_of(4, 8)
        small = net(ops.Abs(), x) * 1e-6
        assert ("underflow" in found(net.returns(small + rest), 1.0)) == named


def test_softmax_over_many_keys_is_named_until_its_probabilities_are_scaled() -> None:
    net, x = net_of(4, 2048)
    p = net(ops.Softmax(axis=1), x)
    plain = net.returns(net(ops.MatMul(), p, net.input(2048, 8)))
    assert found(plain)["softmax"].status == "possible"
    net, x = net_of(4, 2048)
    p = net(ops.Softmax(axis=1), x) * 64.0
    assert "softmax" not in found(net.returns(net(ops.MatMul(), p, net.input(2048, 8))))


def test_warnings_are_few_and_possible_ones_are_left_to_explain() -> None:
    net, x = net_of(4, 8)
    y = net(ops.Sigmoid(), x)
    graph = net.returns(*(y + 1e5 * (i + 1) for i in range(6)), x * 3.0)
    lines = told(risks(graph, LIMITS))
    assert len(lines) == 5
    assert lines[-1].startswith("16-bit floats: 8 more")
    assert risks(graph, LIMITS)[-1].as_json()["status"] == "possible"


def test_a_thousand_layers_take_little_time() -> None:
    net, x = net_of(4, 8)
    for i in range(500):
        x = net(ops.Relu(), x + float(i % 3) / 8) if i % 2 else net(ops.Sigmoid(), x * 0.5)
    graph = net.returns(x)
    start = time.perf_counter()
    risks(graph, LIMITS)
    magnitudes(graph)
    assert time.perf_counter() - start < 0.5  # some 20 ms


@pytest.mark.parametrize("positive", [True, False])
def test_guesses_follow_weights(positive: bool) -> None:
    """Weights of one sign add up, others average out."""
    rng = np.random.default_rng(0)
    net, x = net_of(64, 256)
    for _ in range(4):
        w = rng.standard_normal((256, 256)).astype(np.float32) / 16
        x = net(ops.Relu(), net(ops.Dense(), x, np.abs(w) if positive else w))
    graph = net.returns(x)
    guess = magnitudes(graph)[graph.outputs[0]].size
    seen = np.abs(evaluate(graph, {"x0": rng.standard_normal((64, 256)).astype(np.float32)})["y0"]).max()
    assert 0.1 < guess / seen < 8
    assert (guess > 500) == positive

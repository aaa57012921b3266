"""AbsorbBias: constants move on where nothing clips, through a ReLU as far as rows of data go, and not into pads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.evaluate import evaluate
from compiler.graph import Graph
from passes._scales import Factors
from passes._shifts import shift, shifts
from passes.absorb_bias import AbsorbBias
from tests.passes.composed import Net, Record
from tests.passes.repairing import (
    Sceptic,
    activate,
    chain,
    convolution,
    declined,
    distance_db,
    judge_of,
    rows_of,
    run,
)

POOL = ops.MaxPool(kernel=(1, 1), strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))


def high(activation: str = "relu", bias: float = 20.0, pad: int = 0, move: bool = False) -> Graph:
    """Two convolutions; what half of the channels between them hold lies far from 0."""
    rng = np.random.default_rng(3)
    net = Net()
    op = ops.Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    w, b = rng.normal(size=(8, 3, 3, 3)), np.where(np.arange(8) % 2, bias, 0.0)
    y = activate(net(op, net.input(1, 3, 8, 8), w, b), activation, rng)
    if move:
        y = net(ops.Reshape(shape=(1, 8, 1, 36)), net(POOL, y))
    return net.returns(convolution(y, 4, rng, kernel=1, pad=pad, bias=False))


def moved(graph: Graph, count: int = 4) -> tuple[Graph, int]:
    """The graph with all that can be absorbed on some rows, and how many layers absorb something."""
    twin = graph.clone()
    judge = judge_of(graph, count)
    absorbed = shift(twin, shifts(graph, Factors(graph), judge.rows(graph).channels(graph)))
    twin.verify()
    return twin, absorbed


def test_many_ways_from_one_layer_to_another_take_little_time() -> None:
    rng = np.random.default_rng(3)
    net = Net()
    x = net(ops.Dense(), net.input(1, 4), rng.normal(size=(4, 4)), np.full(4, 20.0))
    for _ in range(600):  # each doubles the ways
        x = net(ops.Concat(axis=1), *reversed(net.many(ops.Split(axis=1, sizes=(2, 2)), x)))
    graph = net.returns(net(ops.Dense(), net(ops.Relu(), x), rng.normal(size=(4, 4)), np.zeros(4)))
    twin, absorbed = moved(graph)
    assert absorbed == 1
    assert distance_db(graph, twin) > 100


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_chains_compute_the_same_on_the_rows_that_were_seen(seed: int) -> None:
    graph = chain(seed)
    twin, _ = moved(graph)
    for feed in judge_of(graph, 4).rows(graph).feeds:
        before, after = evaluate(graph, feed)["y0"], evaluate(twin, feed)["y0"]
        assert np.square(before - after).sum() <= 1e-10 * np.square(before).sum()


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_high_biases_are_absorbed(activation: str) -> None:
    graph = high(activation, bias=40.0)
    before, judge = graph.clone(), judge_of(graph)
    score = judge.score(graph)
    record = run(AbsorbBias(judge=judge), graph)
    assert record.rules[0].startswith("8 channels: " if activation == "none" else "4 channels: ")
    assert judge.score(graph) > score + 1
    first, last = (n for n in graph.nodes if n.op.name == "conv")
    assert np.abs(first.inputs[2].data).max() < 40  # type: ignore[union-attr, arg-type]  # it has a bias
    assert len(last.inputs) == 3
    assert distance_db(before, graph, seed=1) > 100


def test_without_an_activation_any_input_gives_the_same() -> None:
    graph = high("none")
    twin, absorbed = moved(graph)
    assert absorbed == 1
    feed = {name: 50 * array for name, array in rows_of(graph, 1, 9)[0].items()}
    before, after = evaluate(graph, feed)["y0"], evaluate(twin, feed)["y0"]
    assert np.square(before - after).sum() <= 1e-10 * np.square(before).sum()


@pytest.mark.parametrize(
    "graph", [high(pad=1), high("relu6"), high("leaky"), high(bias=0.0)], ids=["pad", "relu6", "leaky", "low"]
)
def test_pads_and_other_activations_absorb_nothing(graph: Graph) -> None:
    assert moved(graph)[1] == 0
    assert AbsorbBias(judge=judge_of(graph)).run(graph, Record()) == 0


def test_what_does_not_help_is_declined_with_its_decibels() -> None:
    graph = high()
    assert declined(AbsorbBias(judge=Sceptic(graph)), graph) == "4 channels -0.50 dB on 8 rows, from 30.00 dB"


def test_without_a_judge_nothing_happens() -> None:
    assert AbsorbBias().run(high(), Record()) == 0

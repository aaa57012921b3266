"""EqualizeLayers: scaled chains compute what they computed, ranges become equal, and what does not help stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.graph import Graph
from compiler.quantize import asymmetric
from passes._scale_choice import scale
from passes._scales import Factors
from passes.equalize_layers import EqualizeLayers
from tests.passes.composed import Net, Record
from tests.passes.repairing import Sceptic, activate, chain, convolution, declined, distance_db, judge_of, run
from tests.passes.weighted import batch_norm, conv_transpose


def scaled(graph: Graph, seed: int) -> int:
    """Scale all channels that can be, by random factors; returns how many constants changed."""
    factors = Factors(graph)
    s = np.exp(np.random.default_rng(seed).normal(size=factors.count))
    s[factors.fixed] = 1.0
    return scale(graph, s[factors.classes])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_scaled_chains_compute_the_same(seed: int) -> None:
    graph = chain(seed)
    twin = graph.clone()
    assert scaled(twin, seed) >= 2  # at least the hidden layer of the head
    twin.verify()
    assert twin.op_counts == graph.op_counts
    assert distance_db(graph, twin) > 100


def unequal(activation: str = "relu") -> Graph:
    """Two convolutions, between which one channel reaches a hundred times as far as another."""
    rng = np.random.default_rng(3)
    net = Net()
    x = net.input(1, 3, 8, 8)
    op = ops.Conv(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
    w = rng.normal(size=(8, 3, 3, 3)) * np.geomspace(0.01, 1, 8)[:, None, None, None]
    y = activate(net(op, x, w, np.zeros(8)), activation, rng)
    v = rng.normal(size=(4, 8, 3, 3)) / np.geomspace(0.01, 1, 8)[None, :, None, None]
    return net.returns(net(op, y, v, np.zeros(4)))


@pytest.mark.parametrize("activation", ["none", "relu", "leaky", "prelu", "clip0"])
def test_channels_reach_equally_far_afterwards(activation: str) -> None:
    graph = unequal(activation)
    before, judge = graph.clone(), judge_of(graph)
    score = judge.score(graph)
    record = run(EqualizeLayers(judge=judge), graph)
    assert len(record.rules) == 1
    assert "dB on 8 rows" in record.rules[0]
    assert judge.score(graph) > score + 6
    assert distance_db(before, graph) > 100
    seen = judge.rows(graph).channels(graph)[list(graph.nodes)[-1].inputs[0]]  # type: ignore[index]  # it reads one
    peaks = np.maximum(np.abs(seen.low), np.abs(seen.high))
    assert peaks.max() / peaks.min() < 1.01


def test_a_bound_other_than_zero_stays_where_it_is() -> None:
    graph = unequal("relu6")
    assert Factors(graph).fixed.all() or not EqualizeLayers(judge=judge_of(graph)).run(graph, Record())


def test_what_does_not_help_is_declined_with_its_decibels() -> None:
    rng = np.random.default_rng(0)
    net = Net()
    x = activate(convolution(net.input(1, 3, 6, 6), 4, rng), "relu", rng)
    graph = net.returns(convolution(x, 4, rng))
    reason = declined(EqualizeLayers(judge=Sceptic(graph)), graph)
    assert reason == "alpha 1.0 -0.50 dB, alpha by region -0.50 dB on 8 rows, from 30.00 dB"


def test_without_a_judge_or_in_a_quantized_model_nothing_happens() -> None:
    graph = unequal()
    assert EqualizeLayers().run(graph, Record()) == 0
    graph.inputs[0].type = graph.inputs[0].type._replace(quant=asymmetric(-1, 1))
    assert EqualizeLayers(judge=judge_of(graph)).run(graph, Record()) == 0


def test_normalisations_and_transposed_convolutions_take_part() -> None:
    net = Net()
    rng = np.random.default_rng(1)
    x = conv_transpose(batch_norm(convolution(net.input(1, 3, 5, 5), 4, rng)), 6, groups=2)
    graph = net.returns(convolution(net(ops.Relu(), batch_norm(x)), 2, rng, groups=2))
    twin = graph.clone()
    assert (~Factors(graph).fixed).sum() == 4 + 4 + 6 + 6
    assert scaled(twin, 2) == 8
    assert distance_db(graph, twin) > 100


def test_layers_that_are_not_homogeneous_fix_their_operands() -> None:
    net = Net()
    rng = np.random.default_rng(1)
    x = net(ops.Sigmoid(), convolution(net.input(1, 3, 5, 5), 4, rng))
    graph = net.returns(convolution(x, 2, rng))
    assert Factors(graph).fixed.all()


@pytest.mark.parametrize("pool", [ops.GlobalAveragePool(), ops.GlobalMaxPool()])
def test_channels_that_a_pool_mixes_stay(pool: ops.GlobalAveragePool | ops.GlobalMaxPool) -> None:
    rng = np.random.default_rng(0)
    net = Net()
    image = net(ops.Reshape(shape=(1, 4, 3, 3)), net(ops.Dense(), net.input(1, 8), rng.normal(size=(8, 36))))
    means = net(ops.Reshape(shape=(1, 4)), net(pool, net(ops.Relu(), image)))
    graph = net.returns(net(ops.Dense(), means, rng.normal(size=(4, 3))))
    assert Factors(graph).count == 36 + 3
    assert Factors(graph).fixed.all()
    twin = graph.clone()
    assert scaled(twin, 0) == 0


def test_a_vector_that_a_matrix_multiplies_stays() -> None:
    rng = np.random.default_rng(0)
    net = Net()
    x, y = net.input(1, 8), net.input(3, 4)
    vector = net(ops.Reshape(shape=(4,)), net(ops.Dense(), x, rng.normal(size=(8, 4))))
    assert Factors(net.returns(net(ops.MatMul(), y, vector))).fixed.all()

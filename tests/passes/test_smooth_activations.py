"""SmoothActivations: factors go from normalisations and attention into weights, and the results stay."""

from __future__ import annotations

import numpy as np
import pytest

from compiler import ops
from compiler.graph import Graph
from compiler.tensor import Array
from passes._scale_choice import scale
from passes._scales import Factors
from passes.smooth_activations import SmoothActivations
from tests.passes.blocks import HEADS_FIRST, heads
from tests.passes.composed import Net, Record, Term
from tests.passes.repairing import Sceptic, declined, distance_db, judge_of, run
from tests.passes.weighted import dense

WIDTH = 16


def outliers() -> Array:
    """Scales of which two are far larger than the others, as in large language models."""
    scales = np.full(WIDTH, 0.2)
    scales[[3, 9]] = 20.0
    return scales


def normed(kind: str) -> Graph:
    """A normalisation with outliers, read by two dense layers."""
    net = Net()
    x = net.input(1, 12, WIDTH)
    y: Term
    if kind == "layer_norm":
        y = net(ops.LayerNorm(axis=2), x, outliers(), np.zeros(WIDTH))
    elif kind == "rms_norm":
        y = net(ops.RmsNorm(axis=2), x, outliers())
    elif kind == "product":
        y = net(ops.Mul(), net(ops.Tanh(), x), outliers()) + np.full(WIDTH, 0.1)
    else:  # without a vector of its own
        loud = net(ops.Tanh(), x) * np.tile(outliers(), 12).reshape(12, WIDTH)
        y = net(ops.Mul(), loud, net(ops.Sigmoid(), net(ops.ReduceMean(axes=(2,)), x)))
    return net.returns(dense(y, 6), dense(y, 4, transposed=True))


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm", "product", "open"])
def test_scaled_normalisations_compute_the_same(kind: str) -> None:
    graph = normed(kind)
    factors = Factors(graph)
    assert (factors.normed & ~factors.fixed).sum() == WIDTH
    s = np.exp(np.random.default_rng(1).normal(size=factors.count))
    s[factors.fixed | ~factors.normed] = 1.0
    twin = graph.clone()
    assert scale(twin, s[factors.classes]) >= 3
    twin.verify()
    assert len(twin) == len(graph) + (kind == "open")
    assert distance_db(graph, twin) > 100


def attention() -> Graph:
    """Values projected by a dense layer, mixed by a softmax, and projected again."""
    net = Net()
    x = net.input(1, 5, 8)
    scores = net(
        ops.Softmax(axis=3), net(ops.MatMul(), heads(x, 2, 4), net(ops.Transpose(perm=(0, 1, 3, 2)), heads(x, 2, 4)))
    )
    mixed = net(ops.MatMul(), scores, heads(x, 2, 4))
    rows = net(ops.Reshape(shape=(1, 5, 8)), net(HEADS_FIRST, mixed))
    return net.returns(dense(rows, 8))


def test_factors_of_values_are_followed_through_heads() -> None:
    graph = attention()
    factors = Factors(graph)
    assert (factors.normed & ~factors.fixed).sum() == 8
    s = np.exp(np.random.default_rng(1).normal(size=factors.count))
    s[factors.fixed] = 1.0
    twin = graph.clone()
    assert scale(twin, s[factors.classes]) == 2
    assert distance_db(graph, twin) > 100


def test_outliers_are_smoothed_where_it_helps() -> None:
    graph = normed("layer_norm")
    before, judge = graph.clone(), judge_of(graph)
    score = judge.score(graph)
    record = run(SmoothActivations(judge=judge), graph)
    assert record.rules[0].startswith("alpha ")
    assert judge.score(graph) > score + 1
    assert graph.op_counts == before.op_counts
    assert distance_db(before, graph) > 100


def test_what_does_not_help_is_declined_with_its_decibels() -> None:
    graph = normed("layer_norm")
    reason = declined(SmoothActivations(judge=Sceptic(graph)), graph)
    assert reason == "alpha 0.5 -0.50 dB, alpha 0.75 -0.50 dB, alpha by region -0.50 dB on 8 rows, from 30.00 dB"


def test_without_a_judge_nothing_happens() -> None:
    assert SmoothActivations().run(normed("rms_norm"), Record()) == 0


class Lukewarm(Sceptic):
    """Finds every change better by a number of decibels."""

    gain = 0.9

    def scores(self, graph: Graph) -> list[float]:
        return [30.0 if super().scores(graph) == [30.0] else 30.0 + self.gain]


def test_a_form_that_adds_layers_has_to_help_more() -> None:
    graph = normed("open")
    judge = Lukewarm(graph)
    assert "+0.90 dB" in declined(SmoothActivations(judge=judge), graph)
    judge.gain = 1.1
    record = run(SmoothActivations(judge=judge), graph)
    assert record.rules[0].endswith("30.00 to 31.10 dB on 8 rows")

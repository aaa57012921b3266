"""CorrectBias: the mean error of each layer goes into its bias, layer by layer, where that helps."""

from __future__ import annotations

import numpy as np
import pytest

from compiler import ops
from compiler.calibrate.fitting import Fitting
from compiler.calibrate.trial import Trial
from compiler.graph import Graph
from passes._bias import add_to_bias, has_bias, mean_errors
from passes._repair import Judge
from passes.correct_bias import CorrectBias
from targets.tflite.int8_rules import scheme
from tests.passes.composed import Net, Record, Term
from tests.passes.repairing import Sceptic, annotated, convolution, declined, judge_of, rows_of, run
from tests.passes.weighted import dense

FAR = 3.0  # mean of the inputs: rounding of weights then shifts results


def network(kind: str, bias: bool = True) -> Graph:
    """Layers with biases, one behind the other."""
    net, rng = Net(), np.random.default_rng(2)
    if kind == "dense":
        x = dense(net.input(4, 24), 16, bias=bias)
        return net.returns(dense(net(ops.Relu(), x), 8, transposed=True, bias=bias))
    x = convolution(net.input(1, 4, 8, 8), 6, rng, bias=bias)
    x = convolution(net(ops.Relu(), x), 6, rng, groups=6, bias=bias)
    return net.returns(convolution(x, 3, rng, kernel=1, pad=0, bias=bias))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_mean_errors_go(kind: str, bias: bool) -> None:
    graph = network(kind, bias)
    judge = judge_of(graph, 16, FAR)
    annotated(graph, judge)
    assert judge.floats is not None
    rows = judge.rows(graph)
    before = mean_errors(graph, judge.floats, rows)
    assert len(before) == len([n for n in graph.nodes if has_bias(n)]) == (2 if kind == "dense" else 3)
    for i, node in enumerate(list(graph.nodes)):
        if i in before:
            add_to_bias(graph, node, before[i])
    graph.verify()
    after = mean_errors(graph, judge.floats, rows)
    for i, error in before.items():
        assert np.abs(error).max() > 0
        assert np.abs(after[i]).max() <= 0.1 * np.abs(error).max()  # a bias is rounded too, and doubt leaves some of it


def test_what_stands_for_a_new_bias_is_stored_in_steps_of_the_products() -> None:
    graph = network("conv", bias=False)
    judge = judge_of(graph, 8, FAR)
    annotated(graph, judge)
    node = next(n for n in graph.nodes if has_bias(n))
    x, w = node.inputs[:2]
    assert x is not None and w is not None and x.type.quant is not None and w.type.quant is not None
    add_to_bias(graph, node, np.ones(6))
    made = next(n for n in graph.nodes if has_bias(n)).inputs[2]
    assert made is not None and made.type.quant is not None and made.data is not None
    assert made.data.tolist() == [1.0] * 6
    expected = [np.float32(x.type.quant.scale[0]) * np.float32(s) for s in w.type.quant.scale]
    np.testing.assert_allclose(made.type.quant.scale, expected)


def test_the_pass_raises_the_accuracy_of_the_outputs() -> None:
    graph = network("conv")
    judge = judge_of(graph, 16, FAR)
    annotated(graph, judge)
    score = judge.score(graph)
    record = run(CorrectBias(judge=judge), graph)
    assert record.rules[0].startswith("3 biases: ")
    assert judge.score(graph) >= score + 0.2


def test_errors_without_a_mean_are_left_alone() -> None:
    """Of one row in two directions there is nothing to correct."""
    net = Net()
    linear = net.returns(dense(net.input(4, 24), 16, bias=False))
    (feed,) = rows_of(linear, 1)
    feeds = [feed, {name: -array for name, array in feed.items()}]
    both = Fitting(feeds)
    judge = Judge(scheme(), lambda _: Trial(feeds), lambda _: both)
    annotated(linear, judge)
    assert judge.floats is not None
    (found,) = mean_errors(linear, judge.floats, both).values()
    assert np.abs(found).max() < 1e-6


def test_what_does_not_help_is_declined_with_its_decibels() -> None:
    graph = annotated(network("dense"), judge_of(network("dense")))
    assert declined(CorrectBias(judge=_open(graph)), graph) == "2 biases -0.50 dB on 8 rows, from 30.00 dB"


def _open(graph: Graph) -> Sceptic:
    judge = Sceptic(graph)
    judge.floats = graph.clone()
    return judge


def test_without_a_judge_or_in_a_model_with_scales_of_its_own_nothing_happens() -> None:
    graph = annotated(network("dense"), judge_of(network("dense")))
    assert CorrectBias().run(graph, Record()) == 0
    assert CorrectBias(judge=judge_of(graph)).run(graph, Record()) == 0


class Trader(Sceptic):
    """Finds that every change lets one output gain what another loses a part of."""

    loss = 0.4

    def scores(self, graph: Graph) -> list[float]:
        return [30.0, 40.0] if super().scores(graph) == [30.0] else [33.0, 40.0 - self.loss]


def test_no_output_pays_for_another() -> None:
    graph = annotated(network("dense"), judge_of(network("dense")))
    judge = Trader(graph)
    judge.floats = graph.clone()
    told = declined(CorrectBias(judge=judge), graph)
    assert told == "2 biases +1.30 dB (-0.40 dB for one output) on 8 rows, from 35.00 dB"
    judge.loss = 0.2
    assert run(CorrectBias(judge=judge), graph).rules == ["2 biases: 35.00 to 36.40 dB on 8 rows"]


def recurrent(bias: bool = True) -> Graph:
    """Steps with the same weights and bias."""
    net, rng = Net(), np.random.default_rng(4)
    arrays = [rng.normal(size=(16, 16)) / 4, rng.normal(size=16)][: 1 + bias]
    constants = [Term(net, net.graph.const(a.astype(np.float32))) for a in arrays]
    x = net.input(4, 16)
    for _ in range(3):
        x = net(ops.Tanh(), net(ops.Dense(), x, *constants))
    return net.returns(dense(x, 8))


@pytest.mark.parametrize("bias", [True, False])
def test_layers_with_one_weight_and_bias_keep_one(bias: bool) -> None:
    graph = recurrent(bias)
    judge = judge_of(graph, 16, FAR)
    annotated(graph, judge)
    assert judge.floats is not None
    errors = mean_errors(graph, judge.floats, judge.rows(graph))
    steps = [i for i, n in enumerate(graph.nodes) if has_bias(n)]
    assert len(steps) == 4 and sorted(errors) == (steps if bias else steps[3:])
    assert not bias or all(np.array_equal(errors[i], errors[steps[0]]) for i in steps[:3])
    for i, node in enumerate(list(graph.nodes)):
        if i in errors:
            add_to_bias(graph, node, errors[i])
    given = [n.inputs[2] for n in graph.nodes if has_bias(n)][:3] if bias else []
    assert len({v.data.tobytes() for v in given if v is not None and v.data is not None}) == bias

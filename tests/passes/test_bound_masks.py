"""BoundMasks: what hides scores is finite in halves, and hides as much."""

from __future__ import annotations

import numpy as np
import pytest

from compiler import ops
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.rewrite import Firing
from passes.bound_masks import BoundMasks
from tests.passes.composed import Net, Record, inputs_of, stays

TRIANGLE = np.triu(np.ones((8, 8), bool), 1)


def masked(hidden: float) -> Graph:
    net = Net()
    mask = np.where(TRIANGLE, np.float32(hidden), np.float32(0))
    return net.returns(net(ops.Softmax(axis=1), net.input(8, 8) + mask))


@pytest.mark.parametrize("hidden", [-np.inf, -1e9, float(np.finfo(np.float32).min)])
def test_added_masks(hidden: float) -> None:
    graph, record = masked(hidden), Record()
    feeds = inputs_of(graph)
    before = evaluate(graph, feeds)["y0"]
    assert BoundMasks().run(graph, record) == 1
    (mask,) = graph.constants
    assert mask.data is not None
    assert mask.data.min() == -40000
    assert np.array_equal(evaluate(graph, feeds)["y0"], before)
    assert BoundMasks().run(graph, Record()) == 0


def test_computed_masks_and_choices() -> None:
    net = Net()
    scores, seen = net.input(8, 8), net.input(8, 8)
    hidden = (1.0 - net(ops.Sign(), net(ops.Relu(), seen))) * -3e38
    chosen = net(ops.Where(), net(ops.Greater(), seen, 0.0), scores, float("-inf"))
    graph = net.returns(net(ops.Softmax(axis=1), scores + hidden), net(ops.Softmax(axis=1), chosen))
    feeds = inputs_of(graph)
    before = evaluate(graph, feeds)
    assert BoundMasks().run(graph, Record()) == 1
    after = evaluate(graph, feeds)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_what_is_no_mask_stays() -> None:
    net = Net()
    x = net.input(8, 8) + np.where(TRIANGLE, np.float32(-1e9), np.float32(0))
    stays(BoundMasks(), net.returns(net(ops.Softmax(axis=1), x), net(ops.ReduceMax(axes=(1,)), x)))
    stays(BoundMasks(), masked(-1e4))


def test_what_softmaxes_give_is_measured() -> None:
    """A shared mask and all that reads it are one firing, of which only the probabilities are old and new."""
    net = Net()
    mask = (1.0 - net(ops.Sign(), net(ops.Relu(), net.input(4, 4)))) * -1e9
    x = net(ops.Softmax(axis=1), net.input(4, 4) + mask)
    graph = net.returns(net(ops.Softmax(axis=1), x + mask))
    firings: list[Firing] = []

    class Keeps(Record):
        def fired(self, firing: Firing) -> None:
            firings.append(firing)

    assert BoundMasks().run(graph, Keeps()) == 1
    graph.verify()
    assert [v.node.op for v in firings[0].new if v.node] == [ops.Softmax(axis=1)] * 2
    assert len(firings[0].erased) == len(firings[0].added) == 5


def test_a_temperature_is_no_mask() -> None:
    net = Net()
    distance = net(ops.Abs(), net(ops.Tanh(), net.input(8, 8)))
    stays(BoundMasks(), net.returns(net(ops.Softmax(axis=1), distance * -1e5)))

"""ScaleScores: the factor of scores goes in front of the product."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.evaluate import evaluate
from compiler.graph import Graph
from passes.scale_scores import ScaleScores
from tests.passes.composed import Net, becomes, inputs_of, run, stays


def scores(factor: float, divided: bool = False, keys: int = 32) -> Graph:
    net = Net()
    product = net(ops.MatMul(), net.input(2, 4, 16), net.input(2, 16, keys))
    return net.returns(product / factor if divided else product * factor)


def test_the_smaller_operand_takes_the_factor() -> None:
    graph = becomes(ScaleScores(), scores(0.25), {"matmul": 1, "mul": 1})
    assert graph.outputs[0].node is not None
    first, second = graph.outputs[0].node.inputs
    assert first is not None
    assert second is graph.inputs[1]
    graph = becomes(ScaleScores(), scores(8.0, divided=True, keys=2), {"matmul": 1, "div": 1})
    assert graph.outputs[0].node is not None
    assert graph.outputs[0].node.inputs[0] is graph.inputs[0]


def test_factors_that_enlarge_or_are_no_numbers_stay() -> None:
    stays(ScaleScores(), scores(2.0))
    stays(ScaleScores(), scores(0.5, divided=True))
    net = Net()
    product = net(ops.MatMul(), net.input(2, 4), net.input(4, 3))
    stays(ScaleScores(), net.returns(product * np.array([0.5, 0.25, 0.125], np.float32)))
    net = Net()
    weight = np.ones((4, 3), np.float32)
    stays(ScaleScores(), net.returns(net(ops.MatMul(), net.input(2, 4), weight) * 0.5))


def test_scores_that_halves_lack_come_to_lie_within() -> None:
    graph = scores(1 / 64)
    feeds = {name: a + 100 for name, a in inputs_of(graph).items()}
    run(ScaleScores(), graph)
    (product,) = graph.of(ops.MatMul)
    twin = graph.clone()
    assert product.output in graph.outputs
    assert np.abs(evaluate(twin, feeds)["y0"]).max() < 65504 < 64 * np.abs(evaluate(twin, feeds)["y0"]).max()

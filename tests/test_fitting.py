"""What layers read on rows of data: by channel, row by row, and in stages that later layers see."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.calibrate.fitting import Fitting
from compiler.evaluate import evaluate
from compiler.graph import Graph
from tests.passes.composed import Net
from tests.passes.repairing import rows_of
from tests.passes.weighted import dense


def network() -> Graph:
    net = Net()
    x = dense(net.input(2, 5), 6)
    turned = net(ops.Transpose(perm=(1, 0)), x)
    return net.returns(dense(turned, 3), dense(net(ops.Relu(), x), 4))


def test_channels_are_those_of_the_value_itself() -> None:
    graph = network()
    rows = Fitting(rows_of(graph, 6))
    found = rows.channels(graph)
    first, turned = (n.outputs[0] for n in list(graph.nodes)[:2])
    numbers = np.concatenate([evaluate(graph_to(graph, 0), f)["y"] for f in rows.feeds])
    np.testing.assert_allclose(found[first].low, numbers.min(0), rtol=1e-5)
    np.testing.assert_allclose(found[first].high, numbers.max(0), rtol=1e-5)
    assert found[first].axis == 1
    assert turned not in found  # it has the numbers of `first`, along another axis


def graph_to(graph: Graph, place: int) -> Graph:
    """The graph with the result of one layer as its output."""
    twin = graph.clone()
    twin.set_outputs([list(twin.nodes)[place].outputs[0]], ["y"])
    return twin


def test_values_come_row_by_row_inputs_too() -> None:
    graph = network()
    rows = Fitting(rows_of(graph, 3))
    value = next(iter(graph.nodes)).outputs[0]
    for feed, (given, made) in zip(rows.feeds, rows.each(graph, [graph.inputs[0], value]), strict=True):
        assert given is feed["x0"]
        np.testing.assert_allclose(made, evaluate(graph_to(graph, 0), feed)["y"], rtol=1e-5)
    assert [list(row) for row in rows.each(graph, [])] == [[], [], []]


def test_what_is_sent_back_is_what_later_layers_read() -> None:
    graph = network()
    rows = Fitting(rows_of(graph, 2))
    nodes = [n for n in graph.nodes if n.op.name == "dense"]
    stages = rows.stages(graph, [n.outputs[0] for n in nodes])
    first = next(stages)
    np.testing.assert_allclose(first[1], evaluate(graph_to(graph, 0), rows.feeds[1])["y"], rtol=1e-5)
    second = stages.send([np.zeros_like(a) for a in first])
    bias = nodes[1].inputs[2]
    assert bias is not None and bias.data is not None
    np.testing.assert_allclose(second[0], np.broadcast_to(bias.data, (6, 3)), rtol=1e-6)
    third = stages.send(None)
    assert [a.shape for a in third] == [(2, 4), (2, 4)]

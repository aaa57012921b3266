"""MergeClips: every pair of clips, also those whose ranges do not meet."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.evaluate import evaluate
from compiler.ops.activation import Clip, Relu
from compiler.tensor import F16, I32, DType
from passes.merge_clips import MergeClips
from tests.passes.composed import Net, Record, becomes, run, stays

BOUND = st.sampled_from([-inf, -2.0, -1.0, 0.0, 1.0, 6.0, inf])
STEP = st.one_of(st.just(Relu()), st.builds(lambda low, high: Clip(low=low, high=high), BOUND, BOUND))


@given(st.lists(STEP, min_size=2, max_size=4))
def test_any_chain_is_one_layer(ops: list[Clip | Relu]) -> None:
    net = Net()
    y = net.input(11)
    for op in ops:
        y = net(op, y)
    graph = net.returns(y)
    x = {"x0": np.array([nan, inf, -inf, 0, -1e-40, -3, -1.5, -0.5, 0.5, 3, 7], np.float32)}
    before = evaluate(graph, x)["y0"]
    assert MergeClips().run(graph, Record()) == 1
    graph.verify()
    assert len(graph) == 1
    np.testing.assert_array_equal(evaluate(graph, x)["y0"], before)


@pytest.mark.parametrize("dtype", [F16, I32])
def test_other_element_types(dtype: DType) -> None:
    net = Net(dtype)
    graph = becomes(MergeClips(), net.returns(net(Clip(low=-1.0, high=2.0), net(Relu(), net.input(50)))), {"clip": 1})
    assert [n.op for n in graph.nodes] == [Clip(low=0.0, high=2.0)]


def test_relu6_and_relu() -> None:
    net = Net()
    x = net.input(5)
    graph = net.returns(net(Clip(high=6.0), net(Relu(), x)), net(Clip(low=-1.0), net(Relu(), x * 2)))
    run(MergeClips(), graph)
    assert [v.node.op for v in graph.outputs if v.node] == [Clip(low=0.0, high=6.0), Relu()]


def test_a_clip_that_is_read_elsewhere_stays() -> None:
    net = Net()
    inner = net(Relu(), net.input(5))
    stays(MergeClips(), net.returns(net(Clip(high=6.0), inner), inner))


def test_a_long_chain_fires_once() -> None:
    net = Net()
    y = net.input(5)
    for _ in range(300):
        y = net(Relu(), y)
    assert run(MergeClips(), net.returns(y)).rules == ["clip_clip"]

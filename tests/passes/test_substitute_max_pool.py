"""SubstituteMaxPool: zeros around what is not below 0."""

from __future__ import annotations

import pytest

from compiler.ops.activation import Clip, Relu
from compiler.ops.parts import Concat, Split
from compiler.ops.pool import MaxPool
from passes.substitute_max_pool import SubstituteMaxPool
from tests.passes.composed import Net, Term, becomes, run, stays


def pool(net: Net, x: Term, pads: tuple[int, ...] = (1, 1, 1, 1)) -> Term:
    return net(MaxPool(kernel=(3, 3), strides=(2, 2), pads=pads, dilations=(1, 1)), x)


def test_padding_in_front() -> None:
    net = Net()
    graph = net.returns(pool(net, net(Relu(), net.input(1, 2, 8, 8))))
    becomes(SubstituteMaxPool(), graph, {"relu": 1, "pad": 1, "max_pool": 1})


def test_what_moves_and_clips_is_seen_through() -> None:
    net = Net()
    x = pool(net, net(Clip(low=0.0, high=6.0), net.input(1, 2, 9, 9)), (0, 0, 0, 0))
    becomes(SubstituteMaxPool(), net.returns(pool(net, x)), {"clip": 1, "pad": 1, "max_pool": 2})


def test_many_ways_back_to_one_value_take_little_time() -> None:
    net = Net()
    x = net(Relu(), net.input(1, 1, 8, 8))
    for _ in range(60):  # each doubles the ways
        a, b = net.many(Split(axis=2, sizes=(4, 4)), x)
        x = net(Concat(axis=2), b, a)
    becomes(
        SubstituteMaxPool(), net.returns(pool(net, x)), {"relu": 1, "split": 60, "concat": 60, "pad": 1, "max_pool": 1}
    )


def test_the_ledger_says_why_not() -> None:
    net = Net()
    notes = run(SubstituteMaxPool(), net.returns(pool(net, net.input(1, 2, 8, 8))))
    assert notes.rules == [] and notes.skips == ["what is pooled may be below 0"]


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (0, 0, 1, 1)])
def test_padding_of_builtins_stays(pads: tuple[int, ...]) -> None:
    net = Net()
    stays(SubstituteMaxPool(), net.returns(pool(net, net(Relu(), net.input(1, 2, 8, 8)), pads)))

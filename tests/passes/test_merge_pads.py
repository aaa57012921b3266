"""MergePads: pads that fill with the same."""

from __future__ import annotations

import pytest

from compiler.ops.parts import Pad
from compiler.tensor import F16
from passes.merge_pads import MergePads
from tests.passes.composed import Net, becomes, stays

A, B = (1, 0, 2, 3), (0, 2, 1, 0)


@pytest.mark.parametrize("how", [{"value": 2.5}, {}, {"mode": "edge"}])
def test_pads_add_up(how: dict[str, object]) -> None:
    net = Net(F16)
    y = net(Pad(pads=B).with_(**how), net(Pad(pads=A).with_(**how), net.input(3, 4)))
    graph = becomes(MergePads(), net.returns(y), {"pad": 1})
    assert [n.op for n in graph.nodes] == [Pad(pads=(1, 2, 3, 3)).with_(**how)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"value": 1.0}, {"value": 2.0}),
        ({"mode": "edge"}, {}),
        ({"mode": "reflect"}, {"mode": "reflect"}),
        ({"mode": "wrap"}, {"mode": "wrap"}),
    ],
)
def test_other_pads_stay(first: dict[str, object], second: dict[str, object]) -> None:
    net = Net()
    stays(MergePads(), net.returns(net(Pad(pads=B).with_(**second), net(Pad(pads=A).with_(**first), net.input(3, 4)))))


def test_a_pad_that_is_read_elsewhere_stays() -> None:
    net = Net()
    inner = net(Pad(pads=A), net.input(3, 4))
    stays(MergePads(), net.returns(net(Pad(pads=B), inner), inner))


def test_a_value_that_is_computed_stays() -> None:
    net = Net()
    fill = net.input()
    stays(MergePads(), net.returns(net(Pad(pads=B), net(Pad(pads=A), net.input(3, 4), fill), fill)))

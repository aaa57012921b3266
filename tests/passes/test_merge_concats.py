"""MergeConcats: concatenations of concatenations."""

from __future__ import annotations

from compiler.ops.parts import Concat
from passes.merge_concats import MergeConcats
from tests.passes.composed import Net, becomes, stays


def test_nested_on_both_sides() -> None:
    net = Net()
    a, b, c = (net.input(2, n) for n in (1, 2, 3))
    join = Concat(axis=1)
    y = net(join, net(join, a, b), net(join, c, net(join, b, a)), c)
    graph = becomes(MergeConcats(), net.returns(y), {"concat": 1})
    assert [n.inputs for n in graph.nodes] == [tuple(v.value for v in (a, b, c, b, a, c))]


def test_origins_are_united() -> None:
    net = Net()
    x, y = net.input(2).value, net.input(3).value
    (inner,) = net.graph.add(Concat(axis=0), x, y, origin=frozenset("i"))
    (outer,) = net.graph.add(Concat(axis=0), inner, x, origin=frozenset("o"))
    net.graph.set_outputs([outer], ["out"])
    becomes(MergeConcats(), net.graph, {"concat": 1})
    assert [n.origin for n in net.graph.nodes] == [frozenset("io")]


def test_another_axis_stays() -> None:
    net = Net()
    a = net.input(2, 2)
    stays(MergeConcats(), net.returns(net(Concat(axis=0), net(Concat(axis=1), a, a), net(Concat(axis=1), a, a))))


def test_one_that_is_read_elsewhere_stays() -> None:
    net = Net()
    a = net.input(2, 2)
    inner = net(Concat(axis=1), a, a)
    stays(MergeConcats(), net.returns(net(Concat(axis=1), inner, a), inner))

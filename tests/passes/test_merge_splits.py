"""MergeSplits: splits next to concatenations, and splits with one reader."""

from __future__ import annotations

from compiler.ops.activation import Relu
from compiler.ops.parts import Concat, Slice, Split
from passes.merge_splits import MergeSplits
from tests.passes.composed import Net, becomes, stays

SPLIT = Split(axis=1, sizes=(1, 3, 2))


def test_parts_that_are_joined_again() -> None:
    net = Net()
    x = net.input(2, 6)
    becomes(MergeSplits(), net.returns(net(Relu(), net(Concat(axis=1), *net.many(SPLIT, x)))), {"relu": 1})


def test_parts_that_are_read_elsewhere_too() -> None:
    net = Net()
    x = net.input(2, 6)
    parts = net.many(SPLIT, x)
    graph = becomes(MergeSplits(), net.returns(net(Concat(axis=1), *parts), *parts), {"split": 1})
    assert graph.outputs[0] is x.value


def test_another_order_stays() -> None:
    net = Net()
    a, b, c = net.many(SPLIT, net.input(2, 6))
    stays(MergeSplits(), net.returns(net(Concat(axis=1), b, a, c)))


def test_another_axis_stays() -> None:
    net = Net()
    parts = net.many(Split(axis=1, sizes=(3, 3)), net.input(2, 6))
    stays(MergeSplits(), net.returns(net(Concat(axis=0), *parts)))


def test_operands_that_are_taken_apart_again() -> None:
    net = Net()
    xs = [net.input(2, n) for n in SPLIT.sizes]
    graph = becomes(MergeSplits(), net.returns(*net.many(SPLIT, net(Concat(axis=1), *xs))), {})
    assert graph.outputs == [x.value for x in xs]


def test_other_sizes_stay() -> None:
    net = Net()
    xs = [net.input(2, n) for n in (3, 1, 2)]
    stays(MergeSplits(), net.returns(*net.many(SPLIT, net(Concat(axis=1), *xs))))


def test_one_part_is_a_slice() -> None:
    net = Net()
    x = net.input(2, 6)
    graph = becomes(MergeSplits(), net.returns(net(Relu(), net.many(SPLIT, x)[1])), {"slice": 1, "relu": 1})
    assert [n.op for n in graph.of(Slice)] == [Slice.of(x.value.type, [1], [1], [4])]


def test_two_parts_stay() -> None:
    net = Net()
    a, _, c = net.many(SPLIT, net.input(2, 6))
    stays(MergeSplits(), net.returns(a, c))

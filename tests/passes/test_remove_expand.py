"""RemoveExpand: expansions that broadcasting does anyway."""

from __future__ import annotations

import numpy as np

from compiler.ops.activation import Relu
from compiler.ops.elementwise import Add, Less, Where
from compiler.ops.matmul import MatMul
from compiler.ops.parts import Tile
from compiler.ops.shape import Expand
from passes.remove_expand import RemoveExpand
from tests.passes.composed import Net, becomes, run, stays


def test_one_operand() -> None:
    net = Net()
    x, y = net.input(1, 4), net.input(3, 4)
    graph = becomes(RemoveExpand(), net.returns(net(Expand(shape=(3, 4)), x) * y), {"mul": 1})
    assert [n.inputs for n in graph.nodes] == [(x.value, y.value)]


def test_of_two_operands_one_keeps_the_shape() -> None:
    net = Net()
    x, y = (net(Expand(shape=(3, 4)), net.input(*shape)) for shape in ((1, 4), (4,)))
    becomes(RemoveExpand(), net.returns(x + y), {"add": 1, "expand": 1})


def test_two_operands_that_make_the_shape_together() -> None:
    net = Net()
    x, y = (net(Expand(shape=(3, 4)), net.input(*shape)) for shape in ((1, 4), (3, 1)))
    becomes(RemoveExpand(), net.returns(x + y), {"add": 1})


def test_both_operands_are_one_expansion() -> None:
    net = Net()
    x = net(Expand(shape=(3, 4)), net.input(4))
    stays(RemoveExpand(), net.returns(x * x))


def test_choice_and_comparison() -> None:
    net = Net()
    x, y = net.input(3, 4), net.input(1)
    wide = net(Expand(shape=(3, 4)), y)
    becomes(RemoveExpand(), net.returns(net(Where(), net(Less(), wide, x), x, wide)), {"less": 1, "where": 1})


def test_an_expansion_with_other_readers_stays_for_them() -> None:
    net = Net()
    x, y = net.input(1, 4), net.input(3, 4)
    wide = net(Expand(shape=(3, 4)), x)
    graph = becomes(
        RemoveExpand(), net.returns(net(Add(), wide, y), net(Relu(), wide)), {"add": 1, "expand": 1, "relu": 1}
    )
    assert [n.inputs for n in graph.of(Add)] == [(x.value, y.value)]


def test_a_tile_of_ones_is_an_expansion() -> None:
    net = Net()
    x, y = net.input(1, 4), net.input(3, 4)
    becomes(RemoveExpand(), net.returns(net(Tile(repeats=(3, 1)), x) - y), {"sub": 1})


def test_another_tile_stays() -> None:
    net = Net()
    stays(RemoveExpand(), net.returns(net(Tile(repeats=(1, 2)), net.input(3, 2)) - net.input(3, 4)))


def test_layers_that_do_not_broadcast_stay() -> None:
    net = Net()
    stays(RemoveExpand(), net.returns(net(MatMul(), net(Expand(shape=(2, 3)), net.input(3)), net.input(3, 2))))


def test_unbound_dimensions() -> None:
    net = Net()
    x, y = net.input(1, 4), net.input("n", 4)
    becomes(RemoveExpand(), net.returns(net(Expand(shape=("n", 4)), x) * y), {"mul": 1})


def test_origins_are_united() -> None:
    net = Net()
    (wide,) = net.graph.add(Expand(shape=(3, 4)), net.input(4).value, origin=frozenset("e"))
    (y,) = net.graph.add(Add(), wide, net.graph.const(np.ones((3, 4), np.float32)), origin=frozenset("a"))
    net.graph.set_outputs([y], ["y"])
    run(RemoveExpand(), net.graph)
    assert [n.origin for n in net.graph.nodes] == [frozenset("ae")]

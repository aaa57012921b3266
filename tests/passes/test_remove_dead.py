"""RemoveDead: layers and results that nobody reads."""

from __future__ import annotations

from compiler.ops.activation import Relu
from compiler.ops.parts import Split
from compiler.ops.pool import MaxPool
from passes.remove_dead import RemoveDead
from tests.passes.composed import Net, becomes, stays

POOL = MaxPool(kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0), dilations=(1, 1), indices=True, storage_order=1)


def test_a_dead_branch_goes_as_a_whole() -> None:
    net = Net()
    x = net.input(4)
    y = net(Relu(), x)
    net.many(Split(axis=0, sizes=(1, 3)), net(Relu(), y * 2.0))
    becomes(RemoveDead(), net.returns(y), {"relu": 1})


def test_what_is_read_stays() -> None:
    net = Net()
    x = net.input(4)
    first, _ = net.many(Split(axis=0, sizes=(1, 3)), x)
    stays(RemoveDead(), net.returns(first))


def test_indices_that_nobody_reads() -> None:
    net = Net()
    values, _ = net.many(POOL, net.input(1, 2, 4, 4))
    graph = becomes(RemoveDead(), net.returns(values), {"max_pool": 1})
    assert [n.op for n in graph.nodes] == [POOL.with_(indices=False, storage_order=0)]


def test_indices_that_are_read_stay() -> None:
    net = Net()
    values, indices = net.many(POOL, net.input(1, 2, 4, 4))
    stays(RemoveDead(), net.returns(values, indices))

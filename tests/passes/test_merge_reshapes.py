"""MergeReshapes: chains of reshapes."""

from __future__ import annotations

from compiler.ops.activation import Relu
from compiler.ops.elementwise import Cast
from compiler.ops.shape import Reshape
from passes.merge_reshapes import MergeReshapes
from tests.passes.composed import Net, Term, becomes, run, stays


def reshape(x: Term, *shape: int | str) -> Term:
    return x.net(Reshape(shape=shape), x)


def test_a_chain_is_its_last() -> None:
    net = Net()
    y = reshape(reshape(reshape(net.input(2, 6), 12), 3, 4), 4, 3)
    graph = becomes(MergeReshapes(), net.returns(y), {"reshape": 1})
    assert [n.op for n in graph.nodes] == [Reshape(shape=(4, 3))]


def test_there_and_back_is_nothing() -> None:
    net = Net()
    x = net.input("n", 6)
    becomes(MergeReshapes(), net.returns(net(Relu(), reshape(reshape(x, "n", 2, 3), "n", 6))), {"relu": 1})


def test_a_reshape_with_other_readers_is_bypassed() -> None:
    net = Net()
    x = net.input(2, 6)
    flat = reshape(x, 12)
    graph = becomes(MergeReshapes(), net.returns(flat, reshape(flat, 3, 4)), {"reshape": 2})
    assert all(n.inputs == (x.value,) for n in graph.nodes)


def test_one_reshape_stays() -> None:
    net = Net()
    stays(MergeReshapes(), net.returns(net(Relu(), reshape(net(Relu(), net.input(2, 6)), 3, 4))))


def test_a_long_chain_fires_once_and_keeps_its_origin() -> None:
    net = Net()
    value = net.input(2, 6).value
    for i in range(500):
        (value,) = net.graph.add(Reshape(shape=((12,), (3, 4))[i % 2]), value, origin=frozenset((str(i),)))
    net.graph.set_outputs([value], ["y"])
    assert run(MergeReshapes(), net.graph).rules == ["reshape_reshape"]
    assert [len(n.origin) for n in net.graph.nodes] == [500]


def test_a_function_in_between() -> None:
    net = Net()
    y = reshape(net(Relu(), reshape(net.input(2, 6), 12)), 3, 4)
    graph = becomes(MergeReshapes(), net.returns(y), {"relu": 1, "reshape": 1})
    assert [type(n.op) for n in graph.nodes] == [Relu, Reshape]


def test_reshapes_that_cancel_around_functions() -> None:
    net = Net()
    y = reshape(net(Cast(to="f16"), net(Relu(), reshape(net.input("n", 6), "n", 2, 3))), "n", 6)
    becomes(MergeReshapes(), net.returns(y), {"cast": 1, "relu": 1})


def test_a_function_that_is_read_elsewhere_stays() -> None:
    net = Net()
    y = net(Relu(), reshape(net.input(2, 6), 12))
    stays(MergeReshapes(), net.returns(reshape(y, 3, 4), y))


def test_a_layer_of_two_operands_stays() -> None:
    net = Net()
    stays(MergeReshapes(), net.returns(reshape(reshape(net.input(2, 6), 12) + 1, 3, 4)))

"""FuseReduceMean: a sum divided by its number of terms, and nothing else."""

from __future__ import annotations

from compiler.ops.reduce import ReduceMean, ReduceSum
from compiler.tensor import I64
from passes.fuse_reduce_mean import FuseReduceMean
from tests.passes.composed import Net, Term, becomes, stays


def total(x: Term) -> Term:
    return x.net(ReduceSum(axes=(1,), keepdims=False), x)


def test_product_and_quotient() -> None:
    net = Net()
    x = net.input(3, 8, 5)
    graph = becomes(FuseReduceMean(), net.returns(total(x) * 0.125, total(x) / 8), {"reduce_mean": 2})
    assert {n.op for n in graph.nodes} == {ReduceMean(axes=(1,), keepdims=False)}


def test_other_factors_stay() -> None:
    net = Net()
    x = net.input(3, 8, 5)
    stays(FuseReduceMean(), net.returns(total(x) * 0.126, total(x) / 40, total(x) / 0.125))


def test_a_sum_with_other_readers_stays() -> None:
    net = Net()
    x = net.input(3, 8, 5)
    s = total(x)
    stays(FuseReduceMean(), net.returns(s / 8, s + 1))


def test_integers_stay() -> None:
    net = Net(I64)
    x = net.input(3, 8, 5)
    stays(FuseReduceMean(), net.returns(total(x) / 8))

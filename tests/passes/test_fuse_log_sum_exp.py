"""FuseLogSumExp: plain and stable."""

from __future__ import annotations

import pytest

from compiler.ops.elementwise import Exp, Log
from compiler.ops.reduce import ReduceLogSumExp, ReduceMax, ReduceSum
from compiler.tensor import F16, F32, DType
from passes.fuse_log_sum_exp import FuseLogSumExp
from tests.passes.composed import Net, Term, becomes, stays


def log_sum(x: Term, *axes: int, keepdims: bool = True) -> Term:
    return x.net(Log(), x.net(ReduceSum(axes=axes, keepdims=keepdims), x.net(Exp(), x)))


@pytest.mark.parametrize("axes", [(0,), (1, 2)])
@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("dtype", [F32, F16])
def test_plain(axes: tuple[int, ...], keepdims: bool, dtype: DType) -> None:
    net = Net(dtype)
    graph = becomes(
        FuseLogSumExp(), net.returns(log_sum(net.input(3, 4, 5), *axes, keepdims=keepdims)), {"reduce_log_sum_exp": 1}
    )
    assert [n.op for n in graph.nodes] == [ReduceLogSumExp(axes=axes, keepdims=keepdims)]


def test_stable() -> None:
    net = Net()
    x = net.input(3, 4)
    top = net(ReduceMax(axes=(1,)), x)
    becomes(FuseLogSumExp(), net.returns(log_sum(x - top, 1) + top), {"reduce_log_sum_exp": 1})


def test_a_maximum_along_other_axes_stays() -> None:
    net = Net()
    x = net.input(3, 4)
    top = net(ReduceMax(axes=(0,)), x)
    graph = net.returns(log_sum(x - top, 1) + top)
    becomes(FuseLogSumExp(), graph, {"reduce_log_sum_exp": 1, "reduce_max": 1, "sub": 1, "add": 1})


def test_a_sum_that_is_read_elsewhere_stays() -> None:
    net = Net()
    x = net.input(3, 4)
    total = net(ReduceSum(axes=(1,)), net(Exp(), x))
    stays(FuseLogSumExp(), net.returns(net(Log(), total), total))

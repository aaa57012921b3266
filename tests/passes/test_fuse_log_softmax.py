"""FuseLogSoftmax: the logarithm, the difference, and the difference written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compiler.ops.elementwise import Exp, Log
from compiler.ops.reduce import ReduceLogSumExp, ReduceMax, ReduceSum
from compiler.ops.softmax import LogSoftmax, Softmax
from compiler.tensor import F16, F32, DType
from passes.fuse_log_softmax import FuseLogSoftmax
from tests.passes.composed import Net, Term, becomes, stays


def log_sum(x: Term, axis: int) -> Term:
    return x.net(Log(), x.net(ReduceSum(axes=(axis,)), x.net(Exp(), x)))


def stable(x: Term) -> Term:
    shifted = x - x.net(ReduceMax(axes=(1,)), x)
    return shifted - log_sum(shifted, 1)


FORMS: dict[str, Callable[[Term], Term]] = {
    "log of softmax": lambda x: x.net(Log(), x.net(Softmax(axis=1), x)),
    "difference": lambda x: x - x.net(ReduceLogSumExp(axes=(1,)), x),
    "written out": lambda x: x - log_sum(x, 1),
    "stable": stable,
}


@pytest.mark.parametrize("formula", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_forms(formula: Callable[[Term], Term], dtype: DType) -> None:
    net = Net(dtype)
    x = net.input(3, 4, 5)
    graph = becomes(FuseLogSoftmax(), net.returns(formula(x)), {"log_softmax": 1})
    assert [(n.op, n.inputs) for n in graph.nodes] == [(LogSoftmax(axis=1), (x.value,))]


def test_the_axis_of_the_maximum_may_be_another() -> None:
    """Then only the difference of the shifted operand is a log_softmax: the maximum along axis 0 stays."""
    net = Net()
    x = net.input(3, 4)
    shifted = x - net(ReduceMax(axes=(0,)), x)
    stays(FuseLogSoftmax(), net.returns(shifted - log_sum(shifted, 1)))


def test_near_misses() -> None:
    net = Net()
    x, y = net.input(4, 4), net.input(4, 4)
    p = net(Softmax(axis=1), x)
    stays(
        FuseLogSoftmax(),
        net.returns(
            net(Log(), p),
            p,
            x - log_sum(y, 1),
            net(ReduceLogSumExp(axes=(1,)), x) - x,
            x - net(ReduceLogSumExp(axes=(0, 1)), x),
        ),
    )

"""SubstituteReduceSum: means times the number of elements."""

from __future__ import annotations

import pytest

from compiler.ops.reduce import ReduceSum
from compiler.tensor import I32
from passes.substitute_reduce_sum import SubstituteReduceSum
from tests.passes.composed import Net, becomes, stays


@pytest.mark.parametrize("axes", [(1,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [True, False])
def test_layers(axes: tuple[int, ...], keepdims: bool) -> None:
    net = Net()
    graph = net.returns(net(ReduceSum(axes=axes, keepdims=keepdims), net.input(3, 4, 5)))
    becomes(SubstituteReduceSum(), graph, {"mul": 1, "reduce_mean": 1})


def test_integers_stay() -> None:
    net = Net(I32)
    stays(SubstituteReduceSum(), net.returns(net(ReduceSum(axes=(1,), keepdims=True), net.input(3, 5))))

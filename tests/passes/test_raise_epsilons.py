"""RaiseEpsilons: what halves would round to 0 becomes their smallest number."""

from __future__ import annotations

import numpy as np
import pytest

from compiler import ops
from compiler.op import Op
from passes.raise_epsilons import RaiseEpsilons
from tests.passes.composed import Net, run, stays

ONES = np.ones(16, np.float32)
SMALLEST = 2.0**-24


@pytest.mark.parametrize("op", [ops.LayerNorm(axis=1, eps=1e-12), ops.RmsNorm(axis=1, eps=1e-9)], ids=lambda o: o.name)
def test_layers(op: Op) -> None:
    net = Net()
    graph = net.returns(net(op, net.input(4, 16), ONES))
    assert run(RaiseEpsilons(), graph).rules == ["layer"]
    (norm,) = graph.of(type(op))
    assert norm.op.values()["eps"] == SMALLEST
    assert np.float16(SMALLEST) > 0


@pytest.mark.parametrize("power", [0.5, -0.5, None])
def test_roots(power: float | None) -> None:
    net = Net()
    x = net.input(4, 16)
    total = net(ops.ReduceMean(axes=(1,)), x * x) + 1e-12
    root = net(ops.Sqrt(), total) if power is None else total**power
    assert run(RaiseEpsilons(), net.returns(root)).rules == ["root"]


def test_what_halves_hold_and_zero_stay() -> None:
    net = Net()
    x = net.input(4, 16)
    stays(
        RaiseEpsilons(), net.returns(net(ops.LayerNorm(axis=1), x, ONES), net(ops.LayerNorm(axis=1, eps=0.0), x, ONES))
    )
    net = Net()
    stays(RaiseEpsilons(), net.returns(net(ops.Log(), net(ops.Abs(), net.input(4)) + 1e-12)))

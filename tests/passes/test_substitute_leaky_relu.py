"""SubstituteLeakyRelu: the larger of x and a x, or the smaller."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.activation import LeakyRelu, PRelu
from passes.substitute_leaky_relu import SubstituteLeakyRelu
from tests.passes.composed import Net, becomes, stays


@pytest.mark.parametrize(("alpha", "choice"), [(0.01, "max"), (1.0, "max"), (1.5, "min")])
def test_slopes(alpha: float, choice: str) -> None:
    net = Net()
    graph = net.returns(net(LeakyRelu(alpha=alpha), net.input(3, 5)))
    becomes(SubstituteLeakyRelu(), graph, {"mul": 1, choice: 1})


@pytest.mark.parametrize("alpha", [0.0, -0.5])
def test_slopes_that_are_not_positive_stay(alpha: float) -> None:
    net = Net()
    stays(SubstituteLeakyRelu(), net.returns(net(LeakyRelu(alpha=alpha), net.input(3, 5))))


def test_one_constant_slope_of_all_channels() -> None:
    net = Net()
    graph = net.returns(net(PRelu(), net.input(1, 3, 5), np.full((1, 1), 0.25)))
    becomes(SubstituteLeakyRelu(), graph, {"mul": 1, "max": 1})


def test_slopes_of_each_channel_and_computed_ones_stay() -> None:
    net = Net()
    x = net.input(1, 3, 5)
    each = net(PRelu(), x, np.full((3, 1), 0.25))
    stays(SubstituteLeakyRelu(), net.returns(each, net(PRelu(), x, net.input(1, 1))))

"""SubstituteGroupedConv: one convolution for each group, or one with zeros."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.activation import Relu
from compiler.ops.conv import Conv
from passes.substitute_grouped_conv import SubstituteGroupedConv
from tests.passes.composed import Net, Term, becomes, stays

RNG = np.random.default_rng(5)


def grouped(net: Net, groups: int, each: int, filters: int, bias: bool = True) -> Term:
    op = Conv(strides=(2, 1), pads=(1, 0, 1, 0), dilations=(1, 1), groups=groups)
    x = net.input(1, groups * each, 7, 6)
    shift = [RNG.normal(size=groups * filters)] if bias else []
    return net(op, x, RNG.normal(size=(groups * filters, each, 3, 3)), *shift)


@pytest.mark.parametrize("bias", [True, False])
def test_groups_become_convolutions(bias: bool) -> None:
    net = Net()
    becomes(SubstituteGroupedConv(), net.returns(grouped(net, 3, 2, 4, bias)), {"split": 1, "conv": 3, "concat": 1})


def test_the_rectifier_goes_to_each() -> None:
    net = Net()
    graph = net.returns(net(Relu(), grouped(net, 2, 2, 3)))
    becomes(SubstituteGroupedConv(), graph, {"split": 1, "conv": 2, "relu": 2, "concat": 1})
    assert next(reversed(list(graph.nodes))).op.name == "concat"


def test_a_result_that_others_read_is_rectified_behind() -> None:
    net = Net()
    y = grouped(net, 2, 2, 3)
    becomes(
        SubstituteGroupedConv(),
        net.returns(net(Relu(), y), y),
        {"split": 1, "conv": 2, "relu": 1, "concat": 1},
    )


@pytest.mark.parametrize(("array", "convolutions"), [(64, 1), (8, 1), (4, 2), (0, 2)])
def test_zeros_where_the_array_takes_no_longer(array: int, convolutions: int) -> None:
    net = Net()
    graph = net.returns(grouped(net, 2, 4, 4))
    layers = {"conv": 1} if convolutions == 1 else {"split": 1, "conv": 2, "concat": 1}
    becomes(SubstituteGroupedConv(array=array), graph, layers)


def test_depthwise_and_ordinary_ones_stay() -> None:
    net = Net()
    stays(SubstituteGroupedConv(), net.returns(grouped(net, 4, 1, 2), grouped(net, 1, 4, 2)))

"""SubstituteDilatedConv: kernels with zeros where dilations differ."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.conv import Conv
from passes.substitute_dilated_conv import SubstituteDilatedConv
from tests.passes.composed import Net, becomes, stays

RNG = np.random.default_rng(3)


def conv(dilations: tuple[int, int], groups: int = 1) -> Conv:
    return Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=dilations, groups=groups)


@pytest.mark.parametrize(
    ("dilations", "common", "kernel"), [((1, 2), 1, (3, 5)), ((2, 4), 2, (3, 5)), ((3, 2), 1, (7, 5))]
)
def test_the_common_dilation_stays(dilations: tuple[int, int], common: int, kernel: tuple[int, int]) -> None:
    net = Net()
    graph = net.returns(net(conv(dilations), net.input(1, 2, 16, 16), RNG.normal(size=(3, 2, 3, 3))))
    becomes(SubstituteDilatedConv(), graph, {"conv": 1})
    (node,) = graph.nodes
    assert isinstance(node.op, Conv) and node.op.dilations == (common, common)
    assert node.inputs[1] is not None and node.inputs[1].type.shape == (3, 2, *kernel)


def test_equal_dilations_and_computed_kernels_stay() -> None:
    net = Net()
    x = net.input(1, 2, 16, 16)
    equal = net(conv((2, 2), 2), x, RNG.normal(size=(2, 1, 3, 3)))
    stays(SubstituteDilatedConv(), net.returns(equal, net(conv((1, 2)), x, net.input(3, 2, 3, 3))))

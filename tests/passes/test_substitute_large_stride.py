"""SubstituteLargeStride: blocks of pixels as channels in front of a convolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compiler.ops.conv import Conv
from passes.substitute_large_stride import SubstituteLargeStride
from tests.passes.composed import Net, becomes, stays
from tests.passes.windowed import convolution, fires, kernels
from tests.strategies import seeds

FEW = SubstituteLargeStride(strides=(1, 2), width=6, height=6)


@settings(max_examples=40)
@given(seed=seeds())
def test_strides_become_those_that_are_taken(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = convolution(rng, ((1, 8), (1, 8)), ((3, 7), (1, 7)), ((1, 1), (1, 1)))
    after = fires(FEW, graph, rng).after
    (conv,) = after.of(Conv)
    assert isinstance(conv.op, Conv)
    assert set(conv.op.strides) <= {1, 2}
    assert all(k <= 6 or s == 1 for k, s in zip(kernels(after)[0], conv.op.strides, strict=True))


def patches(size: int, stride: int) -> Net:
    net = Net()
    window = Conv(strides=(stride, stride), pads=(0, 0, 0, 0), dilations=(1, 1))
    net.returns(net(window, net.input(1, 3, 4 * max(size, stride), 4 * max(size, stride)), np.ones((8, 3, size, size))))
    return net


@pytest.mark.parametrize(("size", "stride", "kernel"), [(16, 16, 8), (14, 14, 2), (7, 7, 1), (32, 32, 8)])
def test_patches_of_a_vision_transformer(size: int, stride: int, kernel: int) -> None:
    blocks = patches(size, stride).graph
    graph = becomes(SubstituteLargeStride(), blocks, {"space_to_depth": 1, "conv": 1})
    assert kernels(graph) == [(kernel, kernel)]


@pytest.mark.parametrize(("size", "stride"), [(8, 8), (5, 5), (3, 2), (7, 2), (15, 1), (12, 12)])
def test_what_is_taken_stays(size: int, stride: int) -> None:
    stays(SubstituteLargeStride(), patches(size, stride).graph)

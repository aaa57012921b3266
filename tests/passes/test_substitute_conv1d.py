"""SubstituteConv1d: windows of one axis on images of height 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compiler.ops.conv import Conv, ConvTranspose
from compiler.ops.pool import AveragePool, MaxPool, Pool
from passes.substitute_conv1d import SubstituteConv1d
from tests.passes.composed import Net, becomes, stays
from tests.passes.windowed import convolution, fires, kernels, pooling
from tests.strategies import seeds


@settings(max_examples=25)
@given(seed=seeds())
def test_convolutions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    after = fires(SubstituteConv1d(), convolution(rng, ((1, 5),), ((1, 3),), ((1, 3),)), rng).after
    assert [len(k) for k in kernels(after)] == [2]


@pytest.mark.parametrize("kind", [MaxPool, AveragePool])
@settings(max_examples=15)
@given(seed=seeds())
def test_pools(kind: type[Pool], seed: int) -> None:
    rng = np.random.default_rng(seed)
    fires(SubstituteConv1d(), pooling(rng, kind, ((1, 5),), ((1, 3),)), rng)


def test_transposed_convolutions() -> None:
    net = Net()
    up = ConvTranspose(strides=(3,), pads=(1, 0), dilations=(2,), groups=2, output_padding=(1,))
    y = net(up, net.input(1, 4, 5), np.random.default_rng(0).normal(size=(4, 3, 4)), np.ones(6))
    becomes(SubstituteConv1d(), net.returns(y), {"conv_transpose": 1, "reshape": 2})


def test_images_and_computed_kernels_stay() -> None:
    net = Net()
    flat = Conv(strides=(1,), pads=(0, 0), dilations=(1,))
    image = Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    computed = net(flat, net.input(1, 2, 9), net.input(3, 2, 3))
    stays(SubstituteConv1d(), net.returns(computed, net(image, net.input(1, 2, 5, 5), np.ones((1, 2, 3, 3)))))

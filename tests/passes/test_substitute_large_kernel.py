"""SubstituteLargeKernel: strips of kernels, of which none is over a limit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from compiler.ops.conv import Conv
from passes.substitute_large_kernel import SubstituteLargeKernel
from tests.passes.composed import Net, becomes, run, stays
from tests.passes.windowed import convolution, fires, kernels
from tests.strategies import seeds

SMALL = SubstituteLargeKernel(width=4, height=6, square=3)


@settings(max_examples=40)
@given(seed=seeds())
def test_strips_sum_to_the_convolution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = convolution(rng, ((1, 9), (5, 12)), ((1, 3), (1, 3)), ((1, 2), (1, 2)))
    after = fires(SMALL, graph, rng).after
    assert all(wide <= (4 if high == 1 else 3) and high <= (6 if wide == 1 else 3) for high, wide in kernels(after))


def conv(*kernel: int) -> Net:
    net = Net()
    window = Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    net.returns(net(window, net.input(1, 1, 70, 2100), np.ones((1, 1, *kernel))))
    return net


def test_limits_of_the_engine() -> None:
    for kernel in ((1, 15), (15, 15), (31, 1)):
        stays(SubstituteLargeKernel(), conv(*kernel).graph)
    becomes(SubstituteLargeKernel(), conv(1, 16).graph, {"add": 1, "conv": 2, "slice": 2})
    becomes(SubstituteLargeKernel(), conv(32, 1).graph, {"add": 1, "conv": 2, "slice": 2})
    becomes(SubstituteLargeKernel(), conv(16, 2).graph, {"add": 1, "conv": 2, "slice": 2})


def test_too_many_strips_are_refused() -> None:
    assert run(SubstituteLargeKernel(), conv(1, 2000).graph).skips == [
        "a kernel of 1 x 2000 would become more than 64 convolutions"
    ]


def test_computed_kernels_stay() -> None:
    net = Net()
    window = Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    stays(SMALL, net.returns(net(window, net.input(1, 1, 9, 9), net.input(1, 1, 9, 9))))

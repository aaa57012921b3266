"""SubstituteLargeTransposedConv: blocks of pixels from a convolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compiler import ops
from compiler.graph import Graph
from passes.substitute_large_transposed_conv import SubstituteLargeTransposedConv
from tests.passes.composed import Net, stays
from tests.passes.windowed import drawn, fires
from tests.strategies import seeds


def transposed(rng: np.random.Generator, strides: tuple[int, int], dilations: tuple[int, int] = (1, 1)) -> Graph:
    """With a random kernel, pads, output padding, groups and bias."""
    kernel, groups = drawn(rng, (1, 9), (1, 9)), int(rng.integers(1, 3))
    pads = drawn(rng, *[(0, (k - 1) // 2) for k in (*kernel, *kernel)])
    more = drawn(rng, *[(0, s - 1) for s in strides])
    op = ops.ConvTranspose(strides=strides, pads=pads, dilations=dilations, groups=groups, output_padding=more)
    net = Net()
    operands = [rng.normal(size=(2 * groups, 3, *kernel)), rng.normal(size=3 * groups)]
    return net.returns(net(op, net.input(2, 2 * groups, 3, 4), *operands[: int(rng.integers(1, 3))]))


@settings(max_examples=40)
@given(seed=seeds())
def test_blocks_compute_the_layer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = transposed(rng, (int(rng.integers(1, 5)), int(rng.integers(3, 6))))
    assert not fires(SubstituteLargeTransposedConv(most=2), graph, rng).after.of(ops.ConvTranspose)


@pytest.mark.parametrize(("stride", "dilation"), [(15, 1), (16, 2)])
def test_others_stay(stride: int, dilation: int) -> None:
    graph = transposed(np.random.default_rng(0), (stride, stride), (dilation, dilation))
    stays(SubstituteLargeTransposedConv(), graph)

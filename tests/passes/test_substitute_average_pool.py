"""SubstituteAveragePool: large windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compiler.ops.pool import AveragePool
from passes.substitute_average_pool import SubstituteAveragePool
from tests.passes.composed import Net, Term, becomes, stays
from tests.passes.windowed import fires, pooling
from tests.strategies import seeds


def pool(net: Net, size: int, kernel: int, pad: int = 0, counted: bool = False) -> Term:
    op = AveragePool(kernel=(kernel,) * 2, strides=(3, 3), pads=(pad,) * 4, dilations=(1, 1), count_include_pad=counted)
    return net(op, net.input(1, 2, size, size))


def test_the_whole_image() -> None:
    net = Net()
    becomes(SubstituteAveragePool(), net.returns(pool(net, 17, 17)), {"global_average_pool": 1})


@pytest.mark.parametrize("pad", [0, 2])
def test_windows_that_all_count_as_many(pad: int) -> None:
    net = Net()
    becomes(SubstituteAveragePool(), net.returns(pool(net, 21, 17, pad, counted=True)), {"conv": 1})


def test_small_windows_and_uneven_counts_stay() -> None:
    net = Net()
    stays(SubstituteAveragePool(), net.returns(pool(net, 20, 16), pool(net, 21, 17, 2)))


def test_the_limit_is_an_option() -> None:
    net = Net()
    becomes(SubstituteAveragePool(most=64), net.returns(pool(net, 9, 9)), {"global_average_pool": 1})


@settings(max_examples=40)
@given(seed=seeds())
def test_long_windows_of_any_kind(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = pooling(rng, AveragePool, ((1, 4), (5, 9)), ((1, 3), (1, 4)))
    assert not fires(SubstituteAveragePool(longest=4), graph, rng).after.of(AveragePool)

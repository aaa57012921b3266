"""SubstituteLargeMaxPool: cascades of narrow windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compiler.ops.pool import MaxPool
from passes.substitute_large_max_pool import SubstituteLargeMaxPool
from tests.passes.composed import Net, becomes, stays
from tests.passes.windowed import fires, pooling
from tests.strategies import seeds


@settings(max_examples=60)
@given(seed=seeds())
def test_narrow_windows_see_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 4))
    graph = pooling(rng, MaxPool, ((1, 3),) * (axes - 1) + ((4, 19),), ((1, 3),) * (axes - 1) + ((1, 12),))
    after = fires(SubstituteLargeMaxPool(most=3), graph, rng).after
    assert all(isinstance(n.op, MaxPool) and n.op.kernel[-1] <= 3 for n in after.of(MaxPool))


@pytest.mark.parametrize(
    ("kernel", "stride", "layers"),
    [
        ((9, 9), 1, {"max_pool": 2}),
        ((16, 16), 16, {"max_pool": 2}),
        ((3, 64), 64, {"max_pool": 2}),
        ((32, 128), 1, {"reduce_max": 1}),
    ],
)
def test_layers(kernel: tuple[int, int], stride: int, layers: dict[str, int]) -> None:
    net = Net()
    window = MaxPool(kernel=kernel, strides=(stride, stride), pads=(0, 0, 0, 0), dilations=(1, 1))
    becomes(SubstituteLargeMaxPool(), net.returns(net(window, net.input(1, 2, 32, 128))), layers)


def test_high_windows_and_indices_stay() -> None:
    net = Net()
    x = net.input(1, 2, 20, 20)
    high = MaxPool(kernel=(9, 8), strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    places = MaxPool(kernel=(1, 9), strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), indices=True)
    stays(SubstituteLargeMaxPool(), net.returns(net(high, x), *net.many(places, x)))

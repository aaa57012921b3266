"""SubstituteResize: blocks of equal pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ops.resize import Resize
from passes.substitute_resize import SubstituteResize
from tests.passes.composed import Net, becomes, stays
from tests.passes.windowed import fires


def nearest(high: float, wide: float, **more: Any) -> Resize:  # Any: fields of the operation
    sizes = (1, 3, int(4 * high), int(5 * wide))
    how: dict[str, Any] = {"coordinates": "asymmetric", "nearest_mode": "floor", **more}  # Any: likewise
    return Resize(sizes=sizes, scales=(1.0, 1.0, high, wide), **how)


@settings(max_examples=20)
@given(high=st.integers(1, 8), wide=st.integers(2, 8), half=st.booleans())
def test_whole_factors(high: int, wide: int, half: bool) -> None:
    net = Net()
    more = {"coordinates": "half_pixel", "nearest_mode": "round_prefer_floor"} if half else {}
    graph = net.returns(net(nearest(high, wide, **more), net.input(1, 3, 4, 5)))
    fires(SubstituteResize(), graph, np.random.default_rng(0))


def test_one_layer() -> None:
    net = Net()
    becomes(SubstituteResize(), net.returns(net(nearest(2, 2), net.input(1, 3, 4, 5))), {"conv_transpose": 1})


@pytest.mark.parametrize(
    "op",
    [nearest(2, 1.5), nearest(9, 9), nearest(2, 2, mode="linear"), nearest(2, 2, nearest_mode="ceil")],
    ids=("fraction", "large", "linear", "ceil"),
)
def test_others_stay(op: Resize) -> None:
    net = Net()
    stays(SubstituteResize(), net.returns(net(op, net.input(1, 3, 4, 5))))

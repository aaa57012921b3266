"""SubstituteCumsum: triangles of ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ops.reduce import CumSum
from compiler.tensor import I64
from passes.substitute_cumsum import SubstituteCumsum
from tests.passes.composed import Net, becomes, run, stays
from tests.passes.windowed import fires


@settings(max_examples=40)
@given(
    dims=st.lists(st.integers(1, 9), min_size=1, max_size=4), at=st.integers(0, 3), how=st.tuples(*[st.booleans()] * 2)
)
def test_running_sums(dims: list[int], at: int, how: tuple[bool, bool]) -> None:
    net = Net()
    op = CumSum(axis=at % len(dims), exclusive=how[0], reverse=how[1])
    fires(SubstituteCumsum(), net.returns(net(op, net.input(*dims))), np.random.default_rng(0))


@pytest.mark.parametrize(("axis", "layers"), [(2, {"dense": 1}), (1, {"matmul": 1}), (0, {"dense": 1, "transpose": 2})])
def test_layers(axis: int, layers: dict[str, int]) -> None:
    net = Net()
    becomes(SubstituteCumsum(), net.returns(net(CumSum(axis=axis), net.input(3, 4, 5))), layers)


def test_long_axes_are_named_and_integers_stay() -> None:
    net = Net()
    graph = net.returns(net(CumSum(axis=0), net.input(2049)))
    assert run(SubstituteCumsum(), graph).skips == ["a matrix for 2049 elements would have 4198401 numbers"]
    net = Net()
    stays(SubstituteCumsum(), net.returns(net(CumSum(axis=0), net.input(3, dtype=I64))))

"""SubstituteGather: slices of constant neighbouring places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ops.index import Gather
from passes.substitute_gather import SubstituteGather
from tests.passes.composed import Net, becomes, run, stays


@pytest.mark.parametrize(
    ("places", "layers"),
    [
        (2, {"slice": 1, "reshape": 1}),
        (-1, {"slice": 1, "reshape": 1}),
        ([1, 2, 3], {"slice": 1}),
        ([-2, -1], {"slice": 1}),
    ],
)
def test_places_that_follow_each_other(places: int | list[int], layers: dict[str, int]) -> None:
    net = Net()
    graph = net.returns(net(Gather(axis=1), net.input(2, 5, 3), np.array(places, np.int64)))
    becomes(SubstituteGather(), graph, layers)


@pytest.mark.parametrize("places", [[0, 2], [3, 2], [[0, 1]], [4, 0]])
def test_other_places_stay(places: list[int]) -> None:
    net = Net()
    stays(SubstituteGather(), net.returns(net(Gather(axis=1), net.input(2, 5, 3), np.array(places, np.int64))))


@settings(max_examples=50)
@given(data=st.data())
def test_any_neighbours_along_any_axis(data: st.DataObject) -> None:
    dims = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    axis = data.draw(st.integers(0, len(dims) - 1))
    begin = data.draw(st.integers(0, dims[axis] - 1))
    end = data.draw(st.integers(begin + 1, dims[axis]))
    places = np.arange(begin, end) - data.draw(st.sampled_from([0, dims[axis]]))
    net = Net()
    graph = net.returns(net(Gather(axis=axis), net.input(*dims), places))
    assert run(SubstituteGather(), graph).rules
    assert "gather" not in graph.op_counts

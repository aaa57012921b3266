"""SubstituteGather: slices of constant neighbouring places."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.index import Gather
from passes.substitute_gather import SubstituteGather
from tests.passes.composed import Net, becomes, stays


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

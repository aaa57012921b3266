"""SubstituteTile: concatenations of a value with itself."""

from __future__ import annotations

import pytest

from compiler.ops.parts import Tile
from passes.substitute_tile import SubstituteTile
from tests.passes.composed import Net, becomes, stays


@pytest.mark.parametrize(("repeats", "count"), [((1, 3), 1), ((2, 3), 2), ((2, 1), 1)])
def test_layers(repeats: tuple[int, int], count: int) -> None:
    net = Net()
    becomes(SubstituteTile(), net.returns(net(Tile(repeats=repeats), net.input(2, 5))), {"concat": count})


@pytest.mark.parametrize("repeats", [(1, 17), (0, 2)])
def test_many_copies_and_none_stay(repeats: tuple[int, int]) -> None:
    net = Net()
    stays(SubstituteTile(), net.returns(net(Tile(repeats=repeats), net.input(2, 5))))

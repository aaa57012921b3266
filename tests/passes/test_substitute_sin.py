"""SubstituteSin: bounds in real arithmetic and in 16 bits, measured."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest

from compiler.op import Op
from compiler.ops.elementwise import Cos, Sin
from compiler.tensor import F16
from passes._periodic import BOUNDS
from passes.substitute_sin import SubstituteSin
from tests.passes.approximated import distance
from tests.passes.composed import Net, becomes, stays


@pytest.mark.parametrize("op", [Sin(), Cos()], ids=str)
def test_the_bound_holds_in_real_arithmetic(op: Op) -> None:
    assert 0.9 * BOUNDS["sin"] < distance(SubstituteSin(), op, np.linspace(-1000, 1000, 200001)) <= BOUNDS["sin"]


def test_the_bound_holds_in_16_bits() -> None:
    grid = np.linspace(-2 * pi, 2 * pi, 20001)
    found = [distance(SubstituteSin(), op, grid, F16) for op in (Sin(), Cos())]
    assert 0.9 * BOUNDS["sin_half"] < max(found) <= BOUNDS["sin_half"]


def test_the_bounds_are_told() -> None:
    assert str(BOUNDS["sin"]) in SubstituteSin.bound and str(BOUNDS["sin_half"]) in SubstituteSin.bound


def test_only_what_is_named() -> None:
    net = Net()
    stays(SubstituteSin(layers=("cos",)), net.returns(net(Sin(), net.input(3))))


def test_layers() -> None:
    net = Net()
    graph = net.returns(net(Sin(), net.input(3)))
    becomes(SubstituteSin(), graph, {"add": 3, "floor": 1, "mul": 12, "round": 1, "sub": 4})

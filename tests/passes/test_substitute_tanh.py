"""SubstituteTanh: the logistic function, doubled and moved."""

from __future__ import annotations

from compiler.ops.elementwise import Tanh
from passes.substitute_tanh import SubstituteTanh
from tests.passes.approximated import GRID, distance
from tests.passes.composed import Net, becomes, stays


def test_it_is_the_same_function() -> None:
    assert distance(SubstituteTanh(), Tanh(), GRID) < 1e-12


def test_layers() -> None:
    net = Net()
    becomes(SubstituteTanh(), net.returns(net(Tanh(), net.input(3))), {"mul": 2, "sigmoid": 1, "sub": 1})


def test_values_of_unknown_size_stay() -> None:
    net = Net()
    stays(SubstituteTanh(), net.returns(net(Tanh(), net.input(0, 3))))

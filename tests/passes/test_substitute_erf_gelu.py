"""SubstituteErfGelu: the distance of the tanh form, measured."""

from __future__ import annotations

import numpy as np

from compiler.ops.activation import Gelu
from passes.substitute_erf_gelu import BOUND, SubstituteErfGelu
from tests.passes.approximated import GRID, distance
from tests.passes.composed import Net, becomes, stays


def test_the_bound_holds_and_is_told() -> None:
    assert 0.99 * BOUND < distance(SubstituteErfGelu(), Gelu(), GRID) <= BOUND
    assert str(BOUND) in SubstituteErfGelu.bound


def test_the_tanh_form_is_the_same() -> None:
    assert distance(SubstituteErfGelu(), Gelu(approximate="tanh"), np.linspace(-12, 12, 4801)) < 1e-12


def test_layers() -> None:
    net = Net()
    becomes(SubstituteErfGelu(), net.returns(net(Gelu(), net.input(3))), {"add": 1, "mul": 4, "sigmoid": 1})


def test_values_of_unknown_size_stay() -> None:
    net = Net()
    stays(SubstituteErfGelu(), net.returns(net(Gelu(), net.input(0, 3))))

"""SubstituteGelu: the bound that the data states, measured, and what it is made of."""

from __future__ import annotations

from compiler.ops.activation import Gelu
from passes.substitute_gelu import SubstituteGelu
from tests.passes.approximated import farthest, stated
from tests.passes.composed import Net, becomes, stays


def test_layers() -> None:
    net = Net()
    graph = net.returns(net(Gelu(), net.input(2, 8)))
    becomes(SubstituteGelu(), graph, {"mul": 4, "clip": 1, "sub": 1, "sigmoid": 1})


def test_the_bound_holds_and_is_tight() -> None:
    found = farthest(SubstituteGelu(), Gelu(approximate="tanh"))
    assert 0.9 * stated("gelu") < found <= stated("gelu")
    assert str(stated("gelu")) in SubstituteGelu.bound


def test_the_form_by_erf_is_nearer() -> None:
    assert farthest(SubstituteGelu(), Gelu()) < 0.0039


def test_values_of_unknown_size_stay() -> None:
    net = Net()
    stays(SubstituteGelu(), net.returns(net(Gelu(), net.input(0, 8))))

"""SubstituteMish: the bound that the data states, measured, and what it is made of."""

from __future__ import annotations

from compiler.ops.activation import Mish
from passes.substitute_mish import SubstituteMish
from tests.passes.approximated import farthest, stated
from tests.passes.composed import Net, becomes, stays


def test_layers() -> None:
    net = Net()
    graph = net.returns(net(Mish(), net.input(2, 8)))
    becomes(SubstituteMish(), graph, {"mul": 3, "add": 2, "sub": 1, "relu": 1, "sigmoid": 1})


def test_the_bound_holds_and_is_tight() -> None:
    found = farthest(SubstituteMish(), Mish())
    assert 0.9 * stated("mish") < found <= stated("mish")
    assert str(stated("mish")) in SubstituteMish.bound


def test_values_of_unknown_size_stay() -> None:
    net = Net()
    stays(SubstituteMish(), net.returns(net(Mish(), net.input(0, 8))))

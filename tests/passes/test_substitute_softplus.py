"""SubstituteSoftplus: the bound that the data states, measured, and what it is made of."""

from __future__ import annotations

from compiler.ops.activation import Softplus
from passes.substitute_softplus import SubstituteSoftplus
from tests.passes.approximated import farthest, stated
from tests.passes.composed import Net, becomes, stays


def test_layers() -> None:
    net = Net()
    graph = net.returns(net(Softplus(), net.input(2, 8)))
    becomes(SubstituteSoftplus(), graph, {"add": 2, "min": 1, "mul": 3, "relu": 1, "sigmoid": 1})


def test_the_bound_holds_and_is_tight() -> None:
    found = farthest(SubstituteSoftplus(), Softplus())
    assert 0.9 * stated("softplus") < found <= stated("softplus")
    assert str(stated("softplus")) in SubstituteSoftplus.bound


def test_values_of_unknown_size_stay() -> None:
    net = Net()
    stays(SubstituteSoftplus(), net.returns(net(Softplus(), net.input(0, 8))))

"""SubstituteElu: the bound that the data states, measured, and what it is made of."""

from __future__ import annotations

from compiler.ops.activation import Elu
from passes.substitute_elu import SubstituteElu
from tests.passes.approximated import farthest, stated
from tests.passes.composed import Net, becomes, stays


def test_layers() -> None:
    net = Net()
    graph = net.returns(net(Elu(), net.input(2, 8)))
    becomes(SubstituteElu(), graph, {"add": 2, "min": 1, "mul": 3, "relu": 1, "sigmoid": 1, "sub": 1})


def test_the_bound_holds_and_is_tight() -> None:
    found = farthest(SubstituteElu(), Elu())
    assert 0.9 * stated("elu") < found <= stated("elu")
    assert str(stated("elu")) in SubstituteElu.bound


def test_other_alphas_scale_the_bound() -> None:
    assert farthest(SubstituteElu(), Elu(alpha=2.5)) <= 2.5 * stated("elu")


def test_values_of_unknown_size_stay() -> None:
    net = Net()
    stays(SubstituteElu(), net.returns(net(Elu(), net.input(0, 8))))

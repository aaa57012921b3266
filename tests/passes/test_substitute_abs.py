"""SubstituteAbs: the larger of x and -x."""

from __future__ import annotations

from compiler.ops.elementwise import Abs
from compiler.tensor import I32
from passes.substitute_abs import SubstituteAbs
from tests.passes.composed import Net, becomes, stays


def test_layers() -> None:
    net = Net()
    becomes(SubstituteAbs(), net.returns(net(Abs(), net.input(3, 5))), {"max": 1, "mul": 1})


def test_integers_stay() -> None:
    net = Net(I32)
    stays(SubstituteAbs(), net.returns(net(Abs(), net.input(3, 5))))

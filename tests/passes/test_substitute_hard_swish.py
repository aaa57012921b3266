"""SubstituteHardSwish: ReLU6 and products."""

from __future__ import annotations

import pytest

from compiler.ops.activation import HardSwish
from compiler.tensor import F16, F32, DType
from passes.substitute_hard_swish import SubstituteHardSwish
from tests.passes.approximated import farthest
from tests.passes.composed import Net, becomes


@pytest.mark.parametrize("dtype", [F32, F16])
def test_layers(dtype: DType) -> None:
    net = Net(dtype)
    graph = net.returns(net(HardSwish(), net.input(3, 5)))
    becomes(SubstituteHardSwish(), graph, {"add": 1, "clip": 1, "mul": 2})


def test_it_is_the_same_function() -> None:
    assert farthest(SubstituteHardSwish(), HardSwish()) < 1e-9

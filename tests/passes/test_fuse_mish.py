"""FuseMish: softplus as one layer and written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compiler.ops.activation import Softplus
from compiler.ops.elementwise import Exp, Log, Tanh
from compiler.tensor import F16, F32, DType
from passes.fuse_mish import FuseMish
from tests.passes.composed import Net, Term, becomes, stays


def tanh(x: Term) -> Term:
    return x.net(Tanh(), x)


def softplus(x: Term) -> Term:
    return x.net(Softplus(), x)


def written_out(x: Term) -> Term:
    return x.net(Log(), 1 + x.net(Exp(), x))


@pytest.mark.parametrize(
    "formula", [lambda x: x * tanh(softplus(x)), lambda x: tanh(softplus(x)) * x, lambda x: x * tanh(written_out(x))]
)
@pytest.mark.parametrize("dtype", [F32, F16])
def test_forms(formula: Callable[[Term], Term], dtype: DType) -> None:
    net = Net(dtype)
    becomes(FuseMish(), net.returns(formula(net.input(5, 30))), {"mish": 1})


def test_near_misses() -> None:
    net = Net()
    x, y = net.input(5), net.input(5)
    gate = tanh(softplus(y))
    stays(FuseMish(), net.returns(x * tanh(softplus(y)), x * tanh(x), y * gate, gate))

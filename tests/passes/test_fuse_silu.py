"""FuseSilu: with and without a factor, as product and as quotient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.ops.activation import Sigmoid, Silu
from compiler.ops.elementwise import Exp, Mul, Neg
from compiler.tensor import F16, F32, DType
from passes.fuse_silu import FuseSilu
from tests.passes.composed import Net, Term, becomes, run, stays


def sigmoid(x: Term) -> Term:
    return x.net(Sigmoid(), x)


FORMS: dict[str, tuple[Callable[[Term], Term], float]] = {
    "product": (lambda x: x * sigmoid(x), 1.0),
    "swapped": (lambda x: sigmoid(x) * x, 1.0),
    "quotient": (lambda x: x / (1 + x.net(Exp(), x.net(Neg(), x))), 1.0),
    "factor": (lambda x: x * sigmoid(x * 1.5), 1.5),
    "factor first": (lambda x: sigmoid(-2.0 * x) * x, -2.0),
    "divisor": (lambda x: x * sigmoid(x / 4), 0.25),
}


@pytest.mark.parametrize(("formula", "alpha"), FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_forms(formula: Callable[[Term], Term], alpha: float, dtype: DType) -> None:
    net = Net(dtype)
    graph = becomes(FuseSilu(), net.returns(formula(net.input(3, 40))), {"silu": 1})
    assert [n.op for n in graph.nodes] == [Silu(alpha=alpha)]


def test_quick_gelu() -> None:
    net = Net()
    x = net.input(3, 40)
    graph = becomes(FuseSilu(), net.returns(x * sigmoid(1.702 * x)), {"silu": 1})
    assert [n.op.changed()["alpha"] for n in graph.nodes] == [pytest.approx(1.702)]


def test_a_sigmoid_with_other_readers_stays() -> None:
    net = Net()
    x = net.input(3, 4)
    gate = sigmoid(x)
    stays(FuseSilu(), net.returns(x * gate, gate + 1))
    net = Net()
    x = net.input(3, 4)
    gate = sigmoid(x)
    stays(FuseSilu(), net.returns(x * gate, gate))


def test_other_operands_stay() -> None:
    net = Net()
    x, y = net.input(3, 4), net.input(3, 4)
    stays(FuseSilu(), net.returns(x * sigmoid(y), x / (2 + net(Exp(), net(Neg(), x))), y * sigmoid(y + 1)))


def test_factors_that_are_no_numbers_stay() -> None:
    net = Net()
    x = net.input(3, 4)
    stays(FuseSilu(), net.returns(x * sigmoid(x * np.arange(4.0)), x * sigmoid(x * np.full((2, 1, 1), 2.0))))


def test_squared_gates_share_nothing() -> None:
    """sigmoid(x) * sigmoid(x) is no silu, but silu(sigmoid(x)) is."""
    net = Net()
    x = net.input(3, 4)
    gate = sigmoid(x)
    record = run(FuseSilu(), net.returns(net(Mul(), gate, gate), sigmoid(x) * sigmoid(sigmoid(x))))
    assert record.rules == []

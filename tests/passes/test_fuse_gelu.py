"""FuseGelu: every spelling of both forms, and near misses."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

import numpy as np
import pytest

from compiler.ops.activation import Gelu
from compiler.ops.elementwise import Erf, Mul, Tanh
from compiler.tensor import F16, F32, F64, DType
from passes.fuse_gelu import FuseGelu
from tests.passes.composed import Net, Term, becomes, stays

K, C = 0.044715, sqrt(2 / pi)


def erf(x: Term) -> Term:
    return x.net(Erf(), x)


def tanh(x: Term) -> Term:
    return x.net(Tanh(), x)


EXACT: dict[str, Callable[[Term], Term]] = {
    "half last": lambda x: x * (erf(x / sqrt(2)) + 1) * 0.5,
    "half first": lambda x: x * 0.5 * (1 + erf(x * sqrt(0.5))),
    "half gate": lambda x: x * (0.5 * (1.0 + erf(x / 1.41421354))),
    "halved gate": lambda x: ((erf(0.70710677 * x) + 1) / 2) * x,
    "divided last": lambda x: ((1 + erf(x / sqrt(2))) * x) / 2,
    "minus one": lambda x: (erf(x / sqrt(2)) - -1.0) * (x / 2.0),
}
APPROXIMATE: dict[str, Callable[[Term], Term]] = {
    "pow": lambda x: 0.5 * x * (1 + tanh(C * (x + K * x**3))),
    "products": lambda x: x * 0.5 * (tanh((x + x * x * x * K) * C) + 1),
    "one by one": lambda x: 0.5 * x * (1.0 + tanh(x * 0.7978845608 * (1.0 + K * x * x))),
    "factored": lambda x: (0.5 * (1.0 + tanh(C * (x * (1 + (x * x) * K))))) * x,
    "factored square": lambda x: x * (1.0 + tanh(x * (C * (1 + K * x**2)))) * 0.5,
    "k x times square": lambda x: x * (1.0 + tanh(C * (x + (K * x) * (x * x)))) * 0.5,
}


@pytest.mark.parametrize("formula", EXACT.values(), ids=EXACT.keys())
@pytest.mark.parametrize("dtype", [F32, F16, F64])
def test_erf_forms(formula: Callable[[Term], Term], dtype: DType) -> None:
    net = Net(dtype)
    graph = becomes(FuseGelu(), net.returns(formula(net.input(2, 3, 50))), {"gelu": 1})
    assert [n.op for n in graph.nodes] == [Gelu()]


@pytest.mark.parametrize("formula", APPROXIMATE.values(), ids=APPROXIMATE.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_tanh_forms(formula: Callable[[Term], Term], dtype: DType) -> None:
    net = Net(dtype)
    graph = becomes(FuseGelu(), net.returns(formula(net.input(2, 3, 50))), {"gelu": 1})
    assert [n.op for n in graph.nodes] == [Gelu(approximate="tanh")]


def test_two_in_a_row_and_an_operand_with_other_readers() -> None:
    net = Net()
    x = net.input(4, 9)
    y = EXACT["half last"](x)
    z = EXACT["half first"](y)
    becomes(FuseGelu(), net.returns(z + x + y), {"gelu": 2, "add": 2})


NEAR: dict[str, Callable[[Term], Term]] = {
    "other divisor": lambda x: x * (erf(x / 1.5) + 1) * 0.5,
    "other factor": lambda x: x * (erf(x / sqrt(2)) + 1) * 0.25,
    "no one": lambda x: x * (erf(x / sqrt(2)) + 2) * 0.5,
    "minus": lambda x: x * (1 - erf(x / sqrt(2))) * 0.5,
    "reversed division": lambda x: x * (erf(sqrt(2) / x) + 1) * 0.5,
    "other cubic": lambda x: 0.5 * x * (1 + tanh(C * (x + 0.05 * x**3))),
    "fourth power": lambda x: 0.5 * x * (1 + tanh(C * (x + K * x**4))),
    "other operand": lambda x: (x + 1) * (erf(x / sqrt(2)) + 1) * 0.5,
}


@pytest.mark.parametrize("formula", NEAR.values(), ids=NEAR.keys())
def test_near_misses(formula: Callable[[Term], Term]) -> None:
    net = Net()
    x = net.input(2, 7)
    stays(FuseGelu(), net.returns(formula(x)))


def test_a_gate_that_is_read_elsewhere_stays() -> None:
    net = Net()
    x = net.input(2, 7)
    gate = erf(x / sqrt(2)) + 1
    stays(FuseGelu(), net.returns(x * gate * 0.5, gate))
    net = Net()
    x = net.input(2, 7)
    gate = erf(x / sqrt(2)) + 1
    stays(FuseGelu(), net.returns(x * gate * 0.5, net(Mul(), gate, gate)))


def test_constants_that_broadcast_the_operand() -> None:
    net = Net()
    x = net.input(3)
    stays(FuseGelu(), net.returns(x * (erf(x / sqrt(2)) + 1) * np.full((2, 1), 0.5)))

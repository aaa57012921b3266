"""FuseHardSwish: hard sigmoids and shifted clips that gate their own operand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compiler.ops.activation import Clip, HardSigmoid
from compiler.tensor import F16, F32, DType
from passes.fuse_hard_sigmoid import FuseHardSigmoid
from passes.fuse_hard_swish import FuseHardSwish
from tests.passes.composed import Net, Term, becomes, run, stays


def window(x: Term, high: float = 6) -> Term:
    return x.net(Clip(low=0, high=high), x + 3)


def hard_sigmoid(x: Term, alpha: float = 1 / 6) -> Term:
    return x.net(HardSigmoid(alpha=alpha), x)


FORMS: dict[str, Callable[[Term], Term]] = {
    "gated": lambda x: x * hard_sigmoid(x),
    "gated, slope as stored in f32": lambda x: hard_sigmoid(x, 0.1666666716337204) * x,
    "product over 6": lambda x: x * window(x) / 6,
    "window over 6": lambda x: x * (window(x) / 6),
    "operand over 6": lambda x: (x / 6) * window(x),
    "times a sixth": lambda x: (window(x) * x) * (1 / 6),
    "a sixth first": lambda x: x * (0.16666667 * window(x)),
}


@pytest.mark.parametrize("formula", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_forms(formula: Callable[[Term], Term], dtype: DType) -> None:
    net = Net(dtype)
    becomes(FuseHardSwish(), net.returns(formula(net.input(5, 30))), {"hard_swish": 1})


def test_after_hard_sigmoid_has_been_found() -> None:
    net = Net()
    x = net.input(5, 30)
    graph = net.returns(x * (window(x) / 6))
    run(FuseHardSigmoid(), graph)
    becomes(FuseHardSwish(), graph, {"hard_swish": 1})


NEAR: dict[str, Callable[[Term], Term]] = {
    "other slope": lambda x: x * hard_sigmoid(x, 0.2),
    "other window": lambda x: x * window(x, 5) / 6,
    "other divisor": lambda x: x * window(x) / 5,
    "other operand": lambda x: (x + 1) * window(x) / 6,
}


@pytest.mark.parametrize("formula", NEAR.values(), ids=NEAR.keys())
def test_near_misses(formula: Callable[[Term], Term]) -> None:
    net = Net()
    stays(FuseHardSwish(), net.returns(formula(net.input(5, 30))))


def test_a_gate_that_is_read_elsewhere_stays() -> None:
    net = Net()
    x = net.input(5)
    gate = hard_sigmoid(x)
    stays(FuseHardSwish(), net.returns(x * gate, gate))

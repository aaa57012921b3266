"""FuseL2Normalize: as torch and TensorFlow write it, and near misses."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np
import pytest

from compiler.evaluate import evaluate
from compiler.ops.activation import Clip
from compiler.ops.elementwise import Max, Reciprocal, Sqrt
from compiler.ops.reduce import ReduceL2, ReduceSum, ReduceSumSquare
from compiler.ops.shape import Expand
from compiler.ops.softmax import LpNormalize
from compiler.tensor import F16, F32, DType
from passes.fuse_l2_normalize import FuseL2Normalize
from tests.passes.composed import Net, Term, becomes, stays

EPS = 0.25


def norm(x: Term, *axes: int) -> Term:
    return x.net(ReduceL2(axes=axes or (1,)), x)


def total(x: Term) -> Term:
    return x.net(ReduceSum(axes=(1,)), x)


def at_least(x: Term, low: float, high: float = inf) -> Term:
    return x.net(Clip(low=low, high=high), x)


def sqrt(x: Term) -> Term:
    return x.net(Sqrt(), x)


FORMS: dict[str, Callable[[Term], Term]] = {
    "clip": lambda x: x / at_least(norm(x), EPS),
    "clip and expand": lambda x: x / x.net(Expand(shape=x.value.type.shape), at_least(norm(x), EPS)),
    "max": lambda x: x / x.net(Max(), norm(x), EPS),
    "root of sum": lambda x: x / at_least(sqrt(total(x * x)), EPS),
    "root of squares": lambda x: x / at_least(total(x**2) ** 0.5, EPS),
    "root of sum_square": lambda x: x / x.net(Max(), EPS, sqrt(x.net(ReduceSumSquare(axes=(1,)), x))),
    "bounded squares": lambda x: x / sqrt(x.net(Max(), total(x * x), EPS**2)),
    "times the inverse": lambda x: x * x.net(Reciprocal(), sqrt(at_least(total(x * x), EPS**2))),
    "times the power": lambda x: x * at_least(x.net(ReduceSumSquare(axes=(1,)), x), EPS**2) ** -0.5,
}


@pytest.mark.parametrize("formula", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_forms(formula: Callable[[Term], Term], dtype: DType) -> None:
    net = Net(dtype)
    graph = net.returns(formula(net.input(4, 8, 3)))
    zero = {"x0": np.zeros((4, 8, 3), dtype.numpy)}
    assert not evaluate(graph, zero)["y0"].any()
    becomes(FuseL2Normalize(), graph, {"lp_normalize": 1})
    assert [n.op for n in graph.nodes] == [LpNormalize(axis=1, p=2, eps=EPS)]
    assert not evaluate(graph, zero)["y0"].any()


NEAR: dict[str, Callable[[Term], Term]] = {
    "no bound": lambda x: x / norm(x),
    "bound of zero": lambda x: x / at_least(norm(x), 0.0),
    "bounded on both sides": lambda x: x / at_least(norm(x), EPS, 1.0),
    "two axes": lambda x: x / at_least(norm(x, 1, 2), EPS),
    "axis dropped": lambda x: x / at_least(x.net(ReduceL2(axes=(0,), keepdims=False), x), EPS),
    "another operand": lambda x: (x + 1) / at_least(norm(x), EPS),
    "a term": lambda x: x / (norm(x) + EPS),
    "sum without square": lambda x: x / at_least(sqrt(total(x)), EPS),
}


@pytest.mark.parametrize("formula", NEAR.values(), ids=NEAR.keys())
def test_near_misses(formula: Callable[[Term], Term]) -> None:
    net = Net()
    with np.errstate(all="ignore"):
        stays(FuseL2Normalize(), net.returns(formula(net.input(4, 8, 3))))


def test_a_norm_that_is_read_elsewhere_stays() -> None:
    net = Net()
    x = net.input(4, 8)
    n = norm(x)
    stays(FuseL2Normalize(), net.returns(x / at_least(n, EPS), n))

"""FuseRelu: maxima, minima and choices."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan

import numpy as np
import pytest

from compiler.evaluate import evaluate
from compiler.ops.activation import Clip, Relu
from compiler.ops.elementwise import Greater, GreaterOrEqual, Less, LessOrEqual, Max, Min, Where
from compiler.tensor import F16, F32, I32, DType
from passes.fuse_relu import FuseRelu
from passes.merge_clips import MergeClips
from tests.passes.composed import Net, Term, becomes, run, stays


def clip(x: Term, low: float = -inf, high: float = inf) -> Term:
    return x.net(Clip(low=low, high=high), x)


FORMS: dict[str, tuple[Callable[[Term], Term], Relu | Clip]] = {
    "max": (lambda x: x.net(Max(), x, 0), Relu()),
    "max swapped": (lambda x: x.net(Max(), 0, x), Relu()),
    "max of another": (lambda x: x.net(Max(), x, -1.5), Clip(low=-1.5)),
    "min": (lambda x: x.net(Min(), 2.0, x), Clip(high=2.0)),
    "clip": (lambda x: clip(x, 0.0), Relu()),
    "where less": (lambda x: x.net(Where(), x.net(Less(), x, 0), 0, x), Relu()),
    "where at most": (lambda x: x.net(Where(), x.net(LessOrEqual(), x, 0), 0, x), Relu()),
    "where reversed": (lambda x: x.net(Where(), x.net(Greater(), 0, x), 0, x), Relu()),
    "where reversed, at most": (lambda x: x.net(Where(), x.net(GreaterOrEqual(), 0, x), 0, x), Relu()),
}


@pytest.mark.parametrize(("formula", "op"), FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_forms(formula: Callable[[Term], Term], op: Relu | Clip, dtype: DType) -> None:
    net = Net(dtype)
    graph = becomes(FuseRelu(), net.returns(formula(net.input(5, 30))), {op.name: 1})
    assert [n.op for n in graph.nodes] == [op]


NEAR: dict[str, Callable[[Term], Term]] = {
    "clip to [0, 6]": lambda x: clip(x, 0.0, 6.0),
    "where greater": lambda x: x.net(Where(), x.net(Greater(), x, 0), x, 0),
    "where the other branch": lambda x: x.net(Where(), x.net(Less(), x, 0), x, 0),
    "where another bound": lambda x: x.net(Where(), x.net(Less(), x, 1), 0, x),
    "max per channel": lambda x: x.net(Max(), x, np.arange(30.0)),
    "max of three": lambda x: x.net(Max(), x, 0, 1),
    "broadcast": lambda x: x.net(Max(), x, np.zeros((1, 1, 1))),
    "not a number": lambda x: x.net(Max(), x, nan),
}


@pytest.mark.parametrize("formula", NEAR.values(), ids=NEAR.keys())
def test_near_misses(formula: Callable[[Term], Term]) -> None:
    net = Net()
    stays(FuseRelu(), net.returns(formula(net.input(5, 30))))


def test_bounds_without_effect() -> None:
    net = Net()
    x = net.input(5)
    becomes(FuseRelu(), net.returns(net(Max(), x, -inf) + net(Min(), inf, x)), {"add": 1})


def test_integers_stay() -> None:
    net = Net(I32)
    x = net.input(5)
    stays(FuseRelu(), net.returns(net(Max(), x, np.array(0, np.int32))))


@pytest.mark.parametrize("dtype", [F32, F16])
def test_relu6_as_a_pair(dtype: DType) -> None:
    net = Net(dtype)
    x = net.input(5, 30)
    graph = net.returns(net(Min(), net(Max(), x, 0), 6), net(Max(), 0, net(Min(), x, 6)))
    run(FuseRelu(), graph)
    becomes(MergeClips(), graph, {"clip": 2})
    assert [n.op for n in graph.nodes] == [Clip(low=0.0, high=6.0)] * 2


@pytest.mark.parametrize(("formula", "op"), FORMS.values(), ids=FORMS.keys())
def test_special_values(formula: Callable[[Term], Term], op: Relu | Clip) -> None:
    """NaN and infinities go the same way."""
    net = Net()
    graph = net.returns(formula(net.input(6)))
    x = {"x0": np.array([nan, inf, -inf, 0.0, -0.0, 1e-40], np.float32)}
    before = evaluate(graph, x)["y0"]
    becomes(FuseRelu(), graph, {op.name: 1})
    np.testing.assert_array_equal(evaluate(graph, x)["y0"], before)

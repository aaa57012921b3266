"""FuseHardSigmoid: lines into clips, and shifted windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.ops.activation import Clip
from compiler.tensor import F16, F32, DType
from passes.fuse_hard_sigmoid import FuseHardSigmoid
from tests.passes.composed import Net, Term, becomes, stays


def clip(x: Term, low: float, high: float) -> Term:
    return x.net(Clip(low=low, high=high), x)


FORMS: dict[str, tuple[Callable[[Term], Term], float, float]] = {
    "keras": (lambda x: clip(x * 0.2 + 0.5, 0, 1), 0.2, 0.5),
    "swapped": (lambda x: clip(0.5 + 0.25 * x, 0, 1), 0.25, 0.5),
    "divided": (lambda x: clip(x / 6 + 0.5, 0, 1), 1 / 6, 0.5),
    "falling": (lambda x: clip(x * -0.5 + 0.25, 0, 1), -0.5, 0.25),
    "relu6": (lambda x: clip(x + 3, 0, 6) / 6, 1 / 6, 0.5),
    "relu6 times": (lambda x: (1 / 6) * clip(3 + x, 0, 6), 1 / 6, 0.5),
    "other span": (lambda x: clip(x + 1, 0, 4) * 0.25, 0.25, 0.25),
}


@pytest.mark.parametrize(("formula", "alpha", "beta"), FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_forms(formula: Callable[[Term], Term], alpha: float, beta: float, dtype: DType) -> None:
    net = Net(dtype)
    graph = becomes(FuseHardSigmoid(), net.returns(formula(net.input(5, 30))), {"hard_sigmoid": 1})
    (node,) = graph.nodes
    exact = 1e-6 if dtype is F32 else 1e-3
    assert node.op.values() == {"alpha": pytest.approx(alpha, exact), "beta": pytest.approx(beta, exact)}


NEAR: dict[str, Callable[[Term], Term]] = {
    "other range": lambda x: clip(x * 0.2 + 0.5, 0, 2),
    "other lower end": lambda x: clip(x * 0.2 + 0.5, -1, 1),
    "wrong quotient": lambda x: clip(x + 3, 0, 6) / 3,
    "reversed": lambda x: 6 / clip(x + 3, 0, 6),
    "zero": lambda x: clip(x + 3, 0, 6) * 0.0,
    "line per channel": lambda x: clip(x * np.arange(30.0) + 0.5, 0, 1),
    "broadcast": lambda x: clip(x * 0.2 + np.full((2, 1, 1), 0.5), 0, 1),
    "unbounded": lambda x: clip(x + 3, 0, np.inf) / 6,
}


@pytest.mark.parametrize("formula", NEAR.values(), ids=NEAR.keys())
def test_near_misses(formula: Callable[[Term], Term]) -> None:
    net = Net()
    stays(FuseHardSigmoid(), net.returns(formula(net.input(5, 30))))


def test_a_clip_that_is_an_output_stays() -> None:
    net = Net()
    window = clip(net.input(5) + 3, 0, 6)
    stays(FuseHardSigmoid(), net.returns(window / 6, window))

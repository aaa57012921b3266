"""FuseBatchNormScale: batch normalisations that have no layer with weights beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.tensor import F16, F32, DType
from passes.fuse_batch_norm_scale import FuseBatchNormScale
from tests.passes.composed import Net, Term, becomes, run, stays
from tests.passes.weighted import batch_norm

C = np.array([0.5, -2, 3]).reshape(3, 1, 1)
AROUND: dict[str, Callable[[Term], Term]] = {
    "scale and shift": lambda x: batch_norm(x) * C + C,
    "shift and scale": lambda x: (1 - batch_norm(x)) / C,
    "before": lambda x: batch_norm((x - C) / 2 + 1),
    "scale before": lambda x: batch_norm(C * x),
    "reversed before": lambda x: batch_norm(C - x),
    "twice": lambda x: batch_norm(batch_norm(batch_norm(x))),
}


@pytest.mark.parametrize("formula", AROUND.values(), ids=AROUND.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_around(formula: Callable[[Term], Term], dtype: DType) -> None:
    net = Net(dtype)
    becomes(FuseBatchNormScale(), net.returns(formula(net.input(2, 3, 4, 5))), {"batch_norm": 1})


OTHER: dict[str, Callable[[Term], Term]] = {
    "another axis": lambda x: batch_norm(x) * np.ones(3),
    "all of it": lambda x: batch_norm(x) + np.ones((3, 3, 3)),
    "not constant": lambda x: batch_norm(x) * x,
}


@pytest.mark.parametrize("formula", OTHER.values(), ids=OTHER.keys())
def test_others_stay(formula: Callable[[Term], Term]) -> None:
    net = Net()
    stays(FuseBatchNormScale(), net.returns(formula(net.input(2, 3, 3, 3))))


def test_a_norm_that_is_read_elsewhere_stays() -> None:
    net = Net()
    y = batch_norm(net.input(2, 3, 4, 5))
    stays(FuseBatchNormScale(), net.returns(y, y * 2))


def test_zeros_before_are_declined() -> None:
    net = Net()
    record = run(FuseBatchNormScale(), net.returns(batch_norm(net.input(2, 3) * np.array([1.0, 0, 2]))))
    assert (record.rules, record.skips) == ([], ["multiplies by zero"])


def test_half_parameters_that_would_overflow_are_declined() -> None:
    net = Net(F16)
    record = run(FuseBatchNormScale(), net.returns(batch_norm(net.input(2, 3) * 1e-7)))
    assert (record.rules, record.skips) == ([], ["a parameter overflows its element type"])

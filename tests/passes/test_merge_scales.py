"""MergeScales: constants added, or multiplied, one after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.tensor import F16, F32, I32, DType
from passes.merge_scales import MergeScales
from tests.passes.composed import Net, Term, becomes, run, stays

ROW, COLUMN = np.linspace(0.5, 2, 4), np.linspace(-1, 3, 3).reshape(3, 1)
CHAINS: dict[str, tuple[Callable[[Term], Term], str]] = {
    "add add": (lambda x: x + 1.5 + ROW, "add"),
    "add sub": (lambda x: 1.5 + x - COLUMN, "add"),
    "sub sub": (lambda x: x - ROW - ROW, "add"),
    "after a broadcast": (lambda x: x + np.ones((2, 1, 1)) + 1, "add"),
    "three": (lambda x: (x - ROW + ROW * 2) + 7, "add"),
    "mul mul": (lambda x: 3 * (x * ROW), "mul"),
    "mul div": (lambda x: x * COLUMN / 7, "mul"),
    "div div": (lambda x: x / ROW / 3, "mul"),
}


@pytest.mark.parametrize(("chain", "op"), CHAINS.values(), ids=CHAINS.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_chains(chain: Callable[[Term], Term], op: str, dtype: DType) -> None:
    net = Net(dtype)
    becomes(MergeScales(), net.returns(chain(net.input(3, 4))), {op: 1})


OTHERS: dict[str, Callable[[Term], Term]] = {
    "sum and product": lambda x: (x + 1) * 2,
    "from a constant": lambda x: 1 - (x + 2),
    "constant over": lambda x: 1 / (x * 2),
    "not constant": lambda x: x * x * 2,
    "a longer result": lambda x: x + 1 + np.ones((2, 1, 1)),
}


@pytest.mark.parametrize("formula", OTHERS.values(), ids=OTHERS.keys())
def test_others_stay(formula: Callable[[Term], Term]) -> None:
    net = Net()
    stays(MergeScales(), net.returns(formula(net.input(3, 4))))


SKIPPED: dict[str, tuple[Callable[[Term], Term], DType]] = {
    "row and column": (lambda x: x + ROW + COLUMN, F32),
    "overflow": (lambda x: x * 1e4 * 1e4, F16),
    "underflow": (lambda x: x * 1e-30 * 1e-30, F32),
    "division by zero": (lambda x: x * 2 / 0, F32),
}


@pytest.mark.parametrize(("formula", "dtype"), SKIPPED.values(), ids=SKIPPED.keys())
def test_what_is_declined_is_said(formula: Callable[[Term], Term], dtype: DType) -> None:
    net = Net(dtype)
    with np.errstate(all="ignore"):
        record = run(MergeScales(), net.returns(formula(net.input(3, 4))), scale=1e-3)
    assert record.rules == []
    assert len(record.skips) == 1


def test_zero_stays_zero() -> None:
    net = Net()
    graph = becomes(MergeScales(), net.returns(net.input(3) * np.array([0.0, 1, 2]) * 5), {"mul": 1})
    assert [v.data.tolist() for v in graph.constants if v.data is not None] == [[0, 5, 10]]


def test_integers_stay() -> None:
    net = Net(I32)
    one = np.array(1, np.int32)
    stays(MergeScales(), net.returns(net.input(3) + one + one))


def test_a_sum_that_is_read_elsewhere_stays() -> None:
    net = Net()
    y = net.input(3) + 1
    stays(MergeScales(), net.returns(y + 1, y))

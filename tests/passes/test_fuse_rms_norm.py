"""FuseRmsNorm: as language models write it, in f32 and with f32 inside f16, and near misses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.ops.elementwise import Cast, Reciprocal, Sqrt
from compiler.ops.reduce import ReduceMean
from compiler.tensor import F16, F32, DType
from passes.fuse_rms_norm import FuseRmsNorm
from tests.passes.composed import Net, Term, becomes, stays

EPS = 1e-3
GAMMA = np.linspace(0.5, 2, 8)


def mean(x: Term, *axes: int) -> Term:
    return x.net(ReduceMean(axes=axes or (2,)), x)


def sqrt(x: Term) -> Term:
    return x.net(Sqrt(), x)


FORMS: dict[str, Callable[[Term], Term]] = {
    "divided": lambda x: x / sqrt(mean(x**2) + EPS),
    "reciprocal": lambda x: x * x.net(Reciprocal(), sqrt(mean(x * x) + EPS)),
    "one over": lambda x: x * (1.0 / sqrt(EPS + mean(x**2))),
    "power": lambda x: (mean(x**2) + EPS) ** -0.5 * x,
}


@pytest.mark.parametrize("formula", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_forms(formula: Callable[[Term], Term], dtype: DType) -> None:
    net = Net(dtype)
    x = net.input(2, 5, 8)
    graph = becomes(FuseRmsNorm(), net.returns(GAMMA * formula(x)), {"rms_norm": 1})
    assert [n.op.values() for n in graph.nodes] == [{"axis": 2, "eps": pytest.approx(EPS, 1e-3), "count": 0}]


def test_f32_inside_f16() -> None:
    net = Net()
    x = net.input(2, 5, 8, dtype=F16)
    y = net(Cast(to="f16"), FORMS["one over"](net(Cast(to="f32"), x)))
    gamma = net.graph.const(GAMMA.astype(np.float16))
    becomes(FuseRmsNorm(), net.returns(y * Term(net, gamma)), {"rms_norm": 1})


def test_a_wide_operand_that_is_read_elsewhere_is_kept() -> None:
    net = Net()
    wide = net(Cast(to="f32"), net.input(2, 5, 8, dtype=F16))
    y = net(Cast(to="f16"), FORMS["divided"](wide))
    becomes(FuseRmsNorm(), net.returns(y, wide + 1), {"rms_norm": 1, "cast": 2, "add": 1})


def test_no_scale_and_a_term_after_it() -> None:
    net = Net()
    becomes(FuseRmsNorm(), net.returns(FORMS["divided"](net.input(2, 5, 8)) + GAMMA), {"add": 1, "rms_norm": 1})


NEAR: dict[str, Callable[[Term], Term]] = {
    "middle axis": lambda x: x / sqrt(mean(x**2, 1) + EPS),
    "another operand": lambda x: (x + 1) / sqrt(mean(x**2) + EPS),
    "cube": lambda x: x / sqrt(mean(x**3) * 0.0 + EPS),
    "no root": lambda x: x / (mean(x**2) + EPS),
}


@pytest.mark.parametrize("formula", NEAR.values(), ids=NEAR.keys())
def test_near_misses(formula: Callable[[Term], Term]) -> None:
    net = Net()
    stays(FuseRmsNorm(), net.returns(formula(net.input(2, 5, 8))))


def test_a_mean_that_is_read_elsewhere_stays() -> None:
    net = Net()
    x = net.input(2, 5, 8)
    m = mean(x**2)
    stays(FuseRmsNorm(), net.returns(x / sqrt(m + EPS), m))

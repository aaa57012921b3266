"""CentreVariance: the difference of moments in its forms, what TensorFlow and JAX make of a layer norm, near misses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.evaluate import evaluate
from compiler.ops.activation import Relu
from compiler.ops.elementwise import Reciprocal, Sqrt
from compiler.ops.reduce import ReduceMean
from compiler.ops.shape import Reshape
from passes.centre_variance import CentreVariance
from passes.eliminate_common import EliminateCommon
from passes.fuse_layer_norm import FuseLayerNorm
from tests.passes.composed import Net, Record, Term, becomes, run, stays

CENTRED = {"reduce_mean": 2, "sub": 1, "mul": 1}


def mean(x: Term, *axes: int, keepdims: bool = False) -> Term:
    return x.net(ReduceMean(axes=axes or (2,), keepdims=keepdims), x)


def relu(x: Term) -> Term:
    return x.net(Relu(), x)


FORMS: dict[str, Callable[[Term], Term]] = {
    "products": lambda x: mean(x * x) - (m := mean(x)) * m,
    "powers": lambda x: mean(x**2) - mean(x) ** 2,
    "kept": lambda x: mean(x * x, keepdims=True) - mean(x, keepdims=True) ** 2,
    "rectified": lambda x: relu(mean(x * x) - (m := mean(x)) * m),
    "first axes": lambda x: relu(mean(x * x, 0, 1) - (m := mean(x, 0, 1)) * m),
}


@pytest.mark.parametrize("formula", FORMS.values(), ids=FORMS.keys())
def test_forms(formula: Callable[[Term], Term]) -> None:
    net = Net()
    becomes(CentreVariance(), net.returns(formula(net.input(2, 5, 8))), CENTRED)


NEAR: dict[str, Callable[[Term], Term]] = {
    "sum": lambda x: mean(x * x) + (m := mean(x)) * m,
    "other axes": lambda x: mean(x * x, 1, keepdims=True) - (m := mean(x, 2, keepdims=True)) * m,
    "another operand": lambda x: mean(x * x) - (m := mean(x * 2.0)) * m,
    "the other way around": lambda x: (m := mean(x)) * m - mean(x * x),
}


@pytest.mark.parametrize("formula", NEAR.values(), ids=NEAR.keys())
def test_near_misses(formula: Callable[[Term], Term]) -> None:
    net = Net()
    stays(CentreVariance(), net.returns(formula(net.input(2, 5, 8))))


def test_a_mean_whose_axis_is_put_back_keeps_it() -> None:
    net = Net()
    x = net.input(2, 5, 8)
    graph = net.returns(net(Reshape(shape=(2, 1, 8)), mean(x, 1)))
    becomes(CentreVariance(), graph, {"reduce_mean": 1})
    net = Net()
    x = net.input(2, 5, 8)
    stays(CentreVariance(), net.returns(net(Reshape(shape=(1, 2, 8)), mean(x, 1))))


def exported(x: Term) -> Term:
    """As JAX's exporter writes a layer norm."""
    net, m = x.net, mean(x)
    variance = relu(mean(x * x) - m * m)
    k = net(Reciprocal(), net(Sqrt(), net(Reshape(shape=(2, 5, 1)), variance) + 1e-3))
    return (x - net(Reshape(shape=(2, 5, 1)), m)) * (k * np.linspace(0.5, 2, 8)) + np.linspace(-1, 1, 8)


def test_what_jax_exports_is_a_layer_norm() -> None:
    net = Net()
    graph = net.returns(exported(net.input(2, 5, 8)))
    run(CentreVariance(), graph)
    EliminateCommon().run(graph, Record())
    becomes(FuseLayerNorm(), graph, {"layer_norm": 1})
    assert [n.op.values() for n in graph.nodes] == [{"axis": 2, "eps": pytest.approx(1e-3), "count": 0}]


def test_numbers_far_from_zero_keep_their_variance() -> None:
    net = Net()
    graph = net.returns(mean((x := net.input(1, 1, 64)) * x) - (m := mean(x)) * m)
    row = np.random.default_rng(0).normal(4096, 0.01, (1, 1, 64)).astype(np.float32)
    (before,) = evaluate(graph, {"x0": row}).values()
    CentreVariance().run(graph, Record())
    (after,) = evaluate(graph, {"x0": row}).values()
    true = row.astype(np.float64).var()
    assert abs(after.item() / true - 1) < 0.01 < abs(before.item() / true - 1)

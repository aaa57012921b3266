"""FuseLayerNorm: every spelling of what standardises, scales and biases in their shapes, and near misses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.ops.elementwise import Cast, Reciprocal, Sqrt
from compiler.ops.norm import LayerNorm
from compiler.ops.reduce import ReduceMean
from compiler.tensor import F16, F32, DType
from passes.fuse_layer_norm import FuseLayerNorm
from tests.passes.composed import Net, Term, becomes, run, stays

EPS = 1e-3
GAMMA, BETA = np.linspace(0.5, 2, 8), np.linspace(-1, 1, 8)


def mean(x: Term, *axes: int, keepdims: bool = True) -> Term:
    return x.net(ReduceMean(axes=axes or (2,), keepdims=keepdims), x)


def sqrt(x: Term) -> Term:
    return x.net(Sqrt(), x)


def reciprocal(x: Term) -> Term:
    return x.net(Reciprocal(), x)


def standard(x: Term, *axes: int) -> Term:
    centred = x - mean(x, *axes)
    return centred / sqrt(mean(centred**2, *axes) + EPS)


def line(x: Term, *, with_bias: bool = True) -> Term:
    m = mean(x)
    centred = x - m
    k = reciprocal(sqrt(mean(centred * centred) + EPS)) * GAMMA
    return x * k + ((BETA if with_bias else np.zeros(8)) - m * k)


FORMS: dict[str, Callable[[Term], Term]] = {
    "pow and div": standard,
    "mul": lambda x: (c := x - mean(x)) / sqrt(EPS + mean(c * c)),
    "reciprocal": lambda x: (c := x - mean(x)) * reciprocal(sqrt(mean(c * c) + EPS)),
    "one over": lambda x: (1 / sqrt(mean((c := x - mean(x)) * c) + EPS)) * c,
    "power of a half": lambda x: (c := x - mean(x)) / (mean(c**2) + EPS) ** 0.5,
    "power of minus a half": lambda x: (c := x - mean(x)) * (mean(c**2) + EPS) ** -0.5,
}


@pytest.mark.parametrize("formula", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_forms(formula: Callable[[Term], Term], dtype: DType) -> None:
    net = Net(dtype)
    x = net.input(2, 5, 8)
    graph = becomes(FuseLayerNorm(), net.returns(formula(x) * GAMMA + BETA), {"layer_norm": 1})
    (node,) = graph.nodes
    assert node.op.values() == {"axis": 2, "eps": pytest.approx(EPS, 1e-3), "count": 0}
    assert node.inputs[0] is x.value
    assert [v.data.tolist() for v in node.inputs[1:] if v is not None and v.data is not None] == [
        GAMMA.astype(dtype.numpy).tolist(),
        BETA.astype(dtype.numpy).tolist(),
    ]


@pytest.mark.parametrize("with_bias", [True, False])
def test_line_with_factor(with_bias: bool) -> None:
    net = Net()
    becomes(FuseLayerNorm(), net.returns(line(net.input(2, 5, 8), with_bias=with_bias)), {"layer_norm": 1})


def test_scale_alone_and_nothing_at_all() -> None:
    net = Net()
    x = net.input(2, 5, 8)
    graph = net.returns(standard(x) * GAMMA.reshape(1, 1, 8), standard(x))
    becomes(FuseLayerNorm(), graph, {"layer_norm": 2})
    assert [v.type.shape for n in graph.nodes for v in n.inputs[1:] if v is not None] == [(8,), (8,)]


def test_no_eps() -> None:
    net = Net()
    x = net.input(2, 5, 8)
    centred = x - mean(x)
    graph = becomes(FuseLayerNorm(), net.returns(centred / sqrt(mean(centred**2))), {"layer_norm": 1})
    assert [n.op for n in graph.nodes] == [LayerNorm(axis=2, eps=0.0)]


@pytest.mark.parametrize(("axes", "scale"), [((1, 2), (5, 8)), ((1, 2), (8,)), ((0, 1, 2), (2, 1, 8)), ((2,), (1,))])
def test_axes(axes: tuple[int, ...], scale: tuple[int, ...]) -> None:
    net = Net()
    y = standard(net.input(2, 5, 8), *axes) * np.random.default_rng(0).normal(size=scale)
    graph = becomes(FuseLayerNorm(), net.returns(y), {"layer_norm": 1})
    assert [n.op.values() for n in graph.nodes] == [{"axis": axes[0], "eps": pytest.approx(EPS), "count": 0}]


def test_symbolic_batch() -> None:
    net = Net()
    becomes(FuseLayerNorm(), net.returns(standard(net.input("batch", 5, 8)) * GAMMA + BETA), {"layer_norm": 1})


def test_what_does_not_broadcast_to_the_last_axis_is_left_outside() -> None:
    net = Net()
    x = net.input(2, 5, 8)
    graph = net.returns(standard(x) * np.ones((5, 1)) * 2 + BETA.reshape(1, 1, 8) + np.ones((1, 2, 5, 8)))
    record = run(FuseLayerNorm(), graph)
    assert (record.rules, graph.op_counts) == (["standardise"], {"add": 2, "layer_norm": 1, "mul": 2})


def test_scale_and_bias_may_be_computed() -> None:
    net = Net()
    x, gamma, beta = net.input(2, 5, 8), net.input(8), net.input(8)
    becomes(FuseLayerNorm(), net.returns(beta + gamma * standard(x)), {"layer_norm": 1})


def test_f32_inside_f16() -> None:
    net = Net()
    x = net.input(2, 5, 8, dtype=F16)
    y = net(Cast(to="f16"), standard(net(Cast(to="f32"), x)))
    becomes(FuseLayerNorm(), net.returns(y), {"layer_norm": 1})


NEAR: dict[str, Callable[[Term], Term]] = {
    "middle axis": lambda x: standard(x, 1),
    "axes with a gap": lambda x: standard(x, 0, 2),
    "two axes": lambda x: (c := x - mean(x, 1, 2)) / sqrt(mean(c**2, 2) + EPS),
    "cube": lambda x: (c := x - mean(x)) / sqrt(mean(c**3 * c) + EPS),
    "plus": lambda x: (c := x + mean(x)) / sqrt(mean(c**2) + EPS),
    "eps per row": lambda x: (c := x - mean(x)) / sqrt(mean(c**2) + np.full((5, 1), EPS)),
    "negative eps": lambda x: (c := x - mean(x)) / sqrt(mean(c**2) + -1e-9),
    "eps outside": lambda x: (c := x - mean(x)) / (sqrt(mean(c**2)) + EPS),
    "another operand": lambda x: (x - mean(x)) / sqrt(mean((c := x * 2 - mean(x * 2)) * c) + EPS),
}


@pytest.mark.parametrize("formula", NEAR.values(), ids=NEAR.keys())
def test_near_misses(formula: Callable[[Term], Term]) -> None:
    net = Net()
    stays(FuseLayerNorm(), net.returns(formula(net.input(2, 5, 8))))


def test_statistics_that_are_read_elsewhere_stay() -> None:
    net = Net()
    x = net.input(2, 5, 8)
    m = mean(x)
    c = x - m
    stays(FuseLayerNorm(), net.returns(c / sqrt(mean(c**2) + EPS), m))

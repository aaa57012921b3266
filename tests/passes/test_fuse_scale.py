"""FuseScale: constants per channel around layers with weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.tensor import F16, F32, I32, DType
from passes.fuse_scale import FuseScale
from tests.passes.composed import Net, Term, becomes, run, stays
from tests.passes.weighted import KINDS, conv, conv_transpose, dense, linear, shape_of

C = np.array([0.5, -2, 3, 1, 0.25, 5])
ARITHMETIC: dict[str, Callable[[Term, np.ndarray], Term]] = {
    "x + c": lambda x, c: x + c,
    "c + x": lambda x, c: c + x,
    "x - c": lambda x, c: x - c,
    "c - x": lambda x, c: c - x,
    "x * c": lambda x, c: x * c,
    "c * x": lambda x, c: c * x,
    "x / c": lambda x, c: x / c,
}


def per_channel(kind: str) -> np.ndarray:
    return C if kind.endswith("dense") else C.reshape(6, *[1] * (len(shape_of(kind)) - 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("formula", ARITHMETIC.values(), ids=ARITHMETIC.keys())
@pytest.mark.parametrize("bias", [True, False])
def test_after(kind: str, formula: Callable[[Term, np.ndarray], Term], bias: bool) -> None:
    net = Net()
    y = linear(net.input(*shape_of(kind)), kind, bias=bias)
    assert y.value.node is not None
    becomes(FuseScale(), net.returns(formula(y, per_channel(kind))), {y.value.node.op.name: 1})


@pytest.mark.parametrize("kind", [k for k in KINDS if not k.endswith("transpose")])
@pytest.mark.parametrize("formula", ARITHMETIC.values(), ids=ARITHMETIC.keys())
def test_before(kind: str, formula: Callable[[Term, np.ndarray], Term]) -> None:
    net = Net()
    y = linear(formula(net.input(*shape_of(kind)), per_channel(kind)), kind)
    assert y.value.node is not None
    becomes(FuseScale(), net.returns(y), {y.value.node.op.name: 1})


@pytest.mark.parametrize("dtype", [F32, F16])
def test_a_whole_chain(dtype: DType) -> None:
    net = Net(dtype)
    x = (net.input(2, 3, 6) / 2 - 0.5) * 4
    becomes(FuseScale(), net.returns((dense(x, 6) * C.reshape(1, 1, 6) + 1) / 3), {"dense": 1})


def test_a_sequence_of_unbound_length() -> None:
    net = Net()
    becomes(FuseScale(), net.returns(dense(net.input("n", 6), 6) * 2 + C), {"dense": 1})


@pytest.mark.parametrize(
    "layer", [lambda x: conv(x, 3, pad=1), lambda x: conv_transpose(x, 3)], ids=["padded", "transposed"]
)
def test_a_shift_cannot_pass_padding_but_a_scale_can(layer: Callable[[Term], Term]) -> None:
    net = Net()
    graph = net.returns(layer((net.input(1, 6, 5, 5) - 1) / 2))
    record = run(FuseScale(), graph)
    assert (record.rules, record.skips) == (["scale_before"], ["the padding would not be shifted"])
    assert graph.op_counts["sub"] == 1


OTHER: dict[str, Callable[[Term], Term]] = {
    "per position": lambda x: conv(x, 6) * np.ones((4, 1)),
    "per channel of the wrong axis": lambda x: conv(x, 4) * np.ones(4),
    "per sample": lambda x: conv(x, 6) + np.ones((2, 1, 1, 1)),
    "everywhere another": lambda x: conv(x, 6) + np.ones((2, 6, 4, 4)),
    "a longer result": lambda x: conv(x, 1) * np.ones((6, 1, 1)),
    "more axes": lambda x: conv(x, 6) * np.ones((1, 1, 1, 1, 1)),
    "not constant": lambda x: conv(x, 6) * x.net.input(6, 1, 1),
    "constant over": lambda x: 1 / conv(x, 6),
    "a broadcast operand": lambda x: conv(x.net.input(1, 1, 5, 5) * np.ones((6, 1, 1)), 6),
}


@pytest.mark.parametrize("formula", OTHER.values(), ids=OTHER.keys())
def test_others_stay(formula: Callable[[Term], Term]) -> None:
    net = Net()
    stays(FuseScale(), net.returns(formula(net.input(2, 6, 5, 5))))


def test_a_layer_that_is_read_elsewhere_stays() -> None:
    net = Net()
    y = dense(net.input(2, 6), 6)
    stays(FuseScale(), net.returns(y * 2, y))


def test_a_scale_that_is_read_elsewhere_stays() -> None:
    net = Net()
    x = net.input(2, 6) * 2
    stays(FuseScale(), net.returns(dense(x, 6), x))


def test_integers_stay() -> None:
    net = Net(I32)
    x = net.input(2, 6)
    stays(FuseScale(), net.returns(dense(x, 6, bias=False) + C))


def test_a_large_weight_is_not_scaled_but_shifted() -> None:
    net = Net()
    graph = net.returns(dense(net.input(2, 6), 6) + 1, dense(net.input(2, 6), 6) * 2)
    record = run(FuseScale(max_bytes=100), graph)
    assert (record.rules, record.skips) == (["scale_after"], ["the weight has more than 100 bytes"])


@pytest.mark.parametrize("formula", [lambda y: y / 0, lambda y: y * np.inf, lambda y: y + np.nan])
def test_what_is_not_finite_is_declined(formula: Callable[[Term], Term]) -> None:
    net = Net()
    with np.errstate(all="ignore"):
        record = run(FuseScale(), net.returns(formula(dense(net.input(2, 6), 6))))
    assert record.rules == []
    assert len(record.skips) == 1


def test_half_weights_that_would_overflow_are_declined() -> None:
    net = Net(F16)
    record = run(FuseScale(), net.returns(dense(net.input(2, 6), 6, bias=False) * 60000), scale=1e-6)
    assert (record.rules, record.skips) == ([], ["a scaled weight overflows f16"])

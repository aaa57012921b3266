"""FoldPad: padding that the next window does itself."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from compiler.ops.conv import Conv
from compiler.ops.parts import Pad
from compiler.ops.pool import AveragePool, MaxPool
from compiler.tensor import F16, F32, DType
from passes.fold_pad import FoldPad
from tests.passes.composed import Net, Term, becomes, run, stays

CONV = Conv(strides=(2, 1), pads=(0, 0, 1, 0), dilations=(1, 2))
AVERAGE = AveragePool(kernel=(3, 2), strides=(2, 1), pads=(0, 0, 1, 0), dilations=(1, 2))
MAXIMUM = MaxPool(kernel=(3, 2), strides=(2, 1), pads=(0, 0, 1, 0), dilations=(1, 2))
SPATIAL = (0, 0, 1, 2, 0, 0, 0, 1)
SUM = (1, 2, 1, 1)


def pad(x: Term, pads: tuple[int, ...] = SPATIAL, **how: float | str) -> Term:
    return x.net(Pad(pads=pads).with_(**how), x)


def conv(x: Term) -> Term:
    return x.net(CONV, x, np.random.default_rng(0).normal(size=(2, 3, 3, 3)), np.ones(2))


@pytest.mark.parametrize("dtype", [F32, F16])
def test_zeros_before_a_convolution(dtype: DType) -> None:
    net = Net(dtype)
    graph = becomes(FoldPad(), net.returns(conv(pad(net.input(1, 3, 6, 7)))), {"conv": 1})
    assert [n.op for n in graph.nodes] == [CONV.with_(pads=SUM)]


@pytest.mark.parametrize("how", [{"value": 1.0}, {"mode": "edge"}, {"mode": "reflect"}])
def test_other_padding_stays(how: dict[str, float | str]) -> None:
    net = Net()
    stays(FoldPad(), net.returns(conv(pad(net.input(1, 3, 6, 7), SPATIAL, **how))))


def test_padded_channels_stay() -> None:
    net = Net()
    stays(FoldPad(), net.returns(conv(pad(net.input(1, 2, 6, 7), (0, 1, 1, 1, 0, 0, 1, 1)))))


def test_padding_that_is_read_elsewhere_stays() -> None:
    net = Net()
    padded = pad(net.input(1, 3, 6, 7))
    stays(FoldPad(), net.returns(conv(padded), padded))


def test_a_fill_that_is_computed_stays() -> None:
    net = Net()
    stays(FoldPad(), net.returns(conv(net(Pad(pads=SPATIAL), net.input(1, 3, 6, 7), net.input()))))


@pytest.mark.parametrize("own", [(0, 0, 0, 0), (0, 0, 1, 0)])
def test_an_average_that_counts_its_padding(own: tuple[int, ...]) -> None:
    net = Net()
    pool = AVERAGE.with_(pads=own, count_include_pad=any(own))
    graph = becomes(FoldPad(), net.returns(net(pool, pad(net.input(1, 2, 6, 7)))), {"average_pool": 1})
    pads = tuple(map(sum, zip((1, 2, 0, 1), own, strict=True)))
    assert [n.op for n in graph.nodes] == [pool.with_(pads=pads, count_include_pad=True)]


def test_an_average_that_does_not_is_declined() -> None:
    net = Net()
    record = run(FoldPad(), net.returns(net(AVERAGE, pad(net.input(1, 2, 6, 7)))))
    assert (record.rules, record.skips) == ([], ["the pool does not count its own padding"])


def test_minus_infinity_before_a_maximum() -> None:
    net = Net()
    pool = MAXIMUM
    graph = becomes(FoldPad(), net.returns(net(pool, pad(net.input(1, 2, 6, 7), value=-inf))), {"max_pool": 1})
    assert [n.op for n in graph.nodes] == [pool.with_(pads=SUM)]


def test_zeros_before_a_maximum_stay() -> None:
    net = Net()
    stays(FoldPad(), net.returns(net(MAXIMUM, pad(net.input(1, 2, 6, 7)))))


def test_indices_count_the_padding_too() -> None:
    net = Net()
    values, indices = net.many(MAXIMUM.with_(indices=True), pad(net.input(1, 2, 6, 7), value=-inf))
    stays(FoldPad(), net.returns(values, indices))


def test_more_padding_than_a_window_is_declined() -> None:
    net = Net()
    pool = MAXIMUM
    record = run(FoldPad(), net.returns(net(pool, pad(net.input(1, 2, 6, 7), (0, 0, 3, 0, 0, 0, 0, 0), value=-inf))))
    assert (record.rules, record.skips) == ([], ["a window would lie in the padding alone"])

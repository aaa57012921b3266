"""AbsorbShuffle: grouped convolutions that read shuffled channels, and what is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.light_models import source
from compiler.graph import Graph
from compiler.onnx_import import import_model
from compiler.op import Op
from compiler.ops import Add, AveragePool, Conv, MaxPool, Relu, Reshape, Sigmoid, Transpose
from compiler.ops.elementwise import Reciprocal
from compiler.pass_manager import PassManager
from passes.absorb_shuffle import AbsorbShuffle
from passes.choose_layout import ChooseLayout
from tests.harness import check
from tests.passes.composed import Net, Term, becomes, run, stays

WINDOW: dict[str, Any] = {"kernel": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}


def conv(
    x: Term, filters: int, groups: int = 1, kernel: tuple[int, int] = (1, 1), bias: bool = True, **options: Any
) -> Term:
    """A convolution with normal weights."""
    rng = np.random.default_rng(filters)
    window = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), **options}
    w = rng.normal(size=(filters, x.value.type.dims[1] // groups, *kernel))
    return x.net(Conv(groups=groups, **window), x, w, *([rng.normal(size=filters)] if bias else []))


def shuffled(x: Term, groups: int) -> Term:
    n, c, h, w = x.value.type.dims
    split = x.net(Reshape(shape=(n, groups, c // groups, h, w)), x)
    return x.net(Reshape(shape=(n, c, h, w)), x.net(Transpose(perm=(0, 2, 1, 3, 4)), split))


@settings(max_examples=120)
@given(
    groups=st.integers(2, 4),
    parts=st.integers(1, 4),
    shares=st.integers(1, 3),
    size=st.tuples(st.integers(1, 2), st.integers(3, 5), st.integers(3, 6)),
    kernel=st.sampled_from([(1, 1), (3, 3), (1, 2), (2, 1)]),
    window=st.fixed_dictionaries(
        {"strides": st.sampled_from([(1, 1), (2, 1), (2, 2)]), "pads": st.sampled_from([(0, 0, 0, 0), (1, 0, 0, 1)])}
    ),
    chain=st.lists(st.sampled_from(["depthwise", "relu", "pool"]), max_size=3),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_shuffles_of_equal_shares(
    groups: int,
    parts: int,
    shares: int,
    size: tuple[int, int, int],
    kernel: tuple[int, int],
    window: dict[str, Any],
    chain: list[str],
    bias: bool,
    seed: int,
) -> None:
    """Channels of a layer whose rows cannot be reordered, each group of the reader taking as many of each."""
    assume(parts * shares > 1)
    channels = groups * parts * shares
    net = Net()
    x = shuffled(net(MaxPool(**WINDOW), net.input(size[0], channels, *size[1:])), groups)
    for name in chain:
        if name == "depthwise":
            x = conv(x, channels, channels, (3, 3), bias, pads=(1, 1, 1, 1))
        else:
            x = net(Relu() if name == "relu" else MaxPool(**WINDOW), x)
    graph = net.returns(conv(x, parts * 2, parts, kernel, bias, **window))
    checked = check(AbsorbShuffle(), graph, np.random.default_rng(seed))
    assert checked.fired == 1
    assert sum(n.macs for n in checked.after.nodes) == sum(n.macs for n in checked.before.nodes)
    assert ChooseLayout(inputs="nhwc", outputs="nhwc").report(checked.after).after == 0


@settings(max_examples=60)
@given(
    groups=st.integers(2, 4),
    parts=st.integers(2, 4),
    depth=st.integers(4, 9),
    makers=st.sampled_from([1, "groups"]),
    seed=st.integers(0, 99),
)
def test_shuffles_of_any_shares(groups: int, parts: int, depth: int, makers: int | str, seed: int) -> None:
    """Channels that a convolution computes, some of its rows filling up with zeros."""
    channels = groups * depth
    if channels % parts:
        channels, depth = channels * parts, depth * parts
    net = Net()
    x = conv(net.input(1, 2 * groups, 4, 5), channels, groups if makers == "groups" else 1)
    y = conv(shuffled(net(Relu(), x), groups), channels, channels, (3, 3), strides=(2, 2))
    graph = net.returns(conv(net(Sigmoid(), y), parts, parts))
    checked = check(AbsorbShuffle(), graph, np.random.default_rng(seed))
    assert checked.fired == 1
    wide = max(n.output.type.dims[1] for n in checked.after.of(Conv))
    assert wide == groups * parts * -(-depth // parts)
    assert ChooseLayout(inputs="nhwc", outputs="nhwc").report(checked.after).after == 0


def test_the_layers_that_are_left() -> None:
    net = Net()
    y = conv(net(Relu(), shuffled(net.input(2, 12, 5, 7), 3)), 4, 2, (3, 3), pads=(1, 1, 1, 1))
    graph = becomes(AbsorbShuffle(), net.returns(y), {"relu": 1, "transpose": 2, "reshape": 1, "conv": 1})
    (reader,) = graph.of(Conv)
    assert reader.op.with_() == Conv(strides=(1, 3), pads=(1, 3, 1, 3), dilations=(1, 1), groups=2)
    assert [v.type.shape for v in reader.inputs[:2] if v is not None] == [(2, 4, 5, 21), (4, 2, 3, 9)]


def test_a_reader_in_one_group_is_not_widened() -> None:
    net = Net()
    y = conv(net(AveragePool(**WINDOW), shuffled(net.input(1, 6, 5, 7), 3)), 4, 1, (3, 3), dilations=(2, 2))
    becomes(AbsorbShuffle(), net.returns(y), {"average_pool": 1, "conv": 1})


@pytest.mark.parametrize(
    ("split", "perm"),
    [
        ((2, 12, 4, 5), (0, 1, 2, 3)),
        ((2, 3, 4, 20), (0, 1, 3, 2)),
        ((2, 3, 4, 4, 5), (0, 2, 1, 4, 3)),
        ((2, 3, 2, 2, 20), (0, 3, 2, 1, 4)),
        ((3, 2, 4, 4, 5), (1, 0, 2, 3, 4)),
    ],
)
def test_other_transposes_stay(split: tuple[int, ...], perm: tuple[int, ...]) -> None:
    net = Net()
    x = net(Transpose(perm=perm), net(Reshape(shape=split), net.input(2, 12, 4, 5)))
    stays(AbsorbShuffle(), net.returns(conv(net(Reshape(shape=(2, 12, 4, 5)), x), 4, 2)))


def test_forms_of_a_shuffle() -> None:
    """The batch of one left out, the pixels merged, dimensions of one in between."""
    for split, perm in (((3, 4, 20), (1, 0, 2)), ((1, 3, 1, 4, 20), (0, 3, 2, 1, 4)), ((3, 4, 4, 5), (1, 0, 2, 3))):
        net = Net()
        x = net(Transpose(perm=perm), net(Reshape(shape=split), net.input(1, 12, 4, 5)))
        graph = net.returns(conv(net(Reshape(shape=(1, 12, 4, 5)), x), 4, 2))
        assert run(AbsorbShuffle(), graph).rules == ["shuffle"]


def test_a_shuffle_that_others_read_stays() -> None:
    net = Net()
    y = shuffled(net.input(1, 8, 4, 4), 2)
    stays(AbsorbShuffle(), net.returns(conv(y, 4, 2), y))
    net = Net()
    y = shuffled(net.input(1, 8, 4, 4), 2)
    stays(AbsorbShuffle(), net.returns(conv(net(Add(), y, y), 4, 2)))


def test_kernels_that_cannot_be_widened_stay() -> None:
    net = Net()
    stays(AbsorbShuffle(), net.returns(conv(shuffled(net.input(1, 8, 6, 6), 2), 4, 2, (1, 2), dilations=(1, 2))))
    net = Net()
    y = net(Conv(strides=(1, 1), pads=(0,) * 4, dilations=(1, 1), groups=2), shuffled(net.input(1, 8, 4, 4), 2),
            net.input(4, 4, 1, 1))  # fmt: skip
    stays(AbsorbShuffle(), net.returns(y))


@pytest.mark.parametrize(
    ("between", "makers", "skipped"),
    [(None, 1, True), (Reciprocal(), 2, True), (Relu(), 7, True), (Relu(), 2, False), (Relu(), 1, False)],
    ids=["given", "1 / 0", "other groups", "same groups", "one group"],
)
def test_unequal_shares_need_a_maker_whose_zeros_stay_numbers(between: Op | None, makers: int, skipped: bool) -> None:
    """14 channels in 2 groups of 7, of which 2 groups read 4 and 3."""
    net = Net()
    x = net.input(1, 14, 4, 4) if between is None else net(between, conv(net.input(1, 14, 4, 4), 14, makers))
    record = run(AbsorbShuffle(), net.returns(conv(shuffled(x, 2), 4, 2)))
    why = "its groups differ in size, and what computes them is not known"
    assert (record.rules, record.skips) == (([], [why]) if skipped else (["shuffle"], []))


def shufflenet() -> Graph:
    graph = import_model(str(source("light_shufflenet"))).graph
    PassManager("default").run(graph)
    return graph


def test_no_element_of_shufflenet_moves() -> None:
    graph = shufflenet()
    assert len(graph.of(Transpose)) == 16
    outcome = PassManager("absorb-shuffle,choose-layout(inputs='nhwc',outputs='nhwc')").run(graph, debug=True)
    assert outcome.ledger.counts()["absorb-shuffle"] == 16
    assert outcome.ledger.measured["transposes"] == {
        "out": 0,
        "lower_bound": 0,
        "bytes_moved": 0,
        "lower_bound_bytes": 0,
    }

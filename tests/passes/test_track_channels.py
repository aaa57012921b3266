"""TrackChannels: channels computed in the order of their readers, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.onnx_import import import_model
from compiler.ops import (
    Add,
    AveragePool,
    BatchNorm,
    Concat,
    Conv,
    Gather,
    MaxPool,
    PRelu,
    Relu,
    Reshape,
    Resize,
    Slice,
    Split,
    Transpose,
)
from compiler.pass_manager import PassManager
from passes._channel_regions import joins
from passes.track_channels import TrackChannels
from tests.harness import check
from tests.passes.composed import Net, Term, becomes, stays
from tests.passes.test_absorb_shuffle import WINDOW, conv, shuffled
from tests.real_models import real_model


def halves(x: Term) -> list[Term]:
    c = x.value.type.dims[1]
    return parts(x, c // 2, c - c // 2)


def parts(x: Term, *sizes: int) -> list[Term]:
    values = x.net.graph.add(Split(axis=1, sizes=sizes), x.value)
    return [Term(x.net, v) for v in values]


def depthwise(x: Term) -> Term:
    return conv(x, x.value.type.dims[1], x.value.type.dims[1], (3, 3), pads=(1, 1, 1, 1))


def gathered(x: Term) -> tuple[Term, Term]:
    """Even and odd channels, as a shuffle of two groups and a gather of each."""
    _, c, h, w = x.value.type.dims
    net = x.net
    swapped = net(Transpose(perm=(1, 0, 2)), net(Reshape(shape=(c // 2, 2, h * w)), x))
    both = net(Reshape(shape=(2, 1, c // 2, h, w)), swapped)
    even, odd = (net(Gather(axis=0), both, np.array(i)) for i in (0, 1))
    return even, odd


def shuffled_halves(x: Term) -> tuple[Term, Term]:
    left, right = halves(shuffled(x, 2))
    return left, right


def branch(x: Term, filters: int) -> Term:
    net = x.net
    return net(Relu(), conv(depthwise(net(Relu(), conv(x, filters))), filters))


def backbone(blocks: int, cut: Callable[[Term], tuple[Term, Term]]) -> Graph:
    """A stage of ShuffleNet V2 with 64 channels on each side."""
    net = Net()
    image = net.input(1, 3, 6, 6)
    left, right = branch(image, 64), branch(image, 64)
    for _ in range(blocks):
        left, x = cut(net(Concat(axis=1), left, right))
        right = branch(x, 64)
    return net.returns(conv(net(Concat(axis=1), left, right), 5))


def test_a_stage_of_shufflenet_v2() -> None:
    """Each block reads two slices side by side, and one more of each block before; half of the channels stay."""
    for cut in (gathered, shuffled_halves):
        graph = becomes(TrackChannels(), backbone(2, cut), {"conv": 13, "relu": 8, "slice": 8, "concat": 3})
        assert sum(n.op.values()["groups"] > 1 for n in graph.of(Conv)) == 4
        widths = [[v.type.dims[1] for v in n.inputs if v is not None] for n in graph.of(Concat)]
        assert widths == [[32, 32], [16, 16, 32], [16, 16, 32, 64]]
        assert all(n.op.values()["steps"] == (1, 1, 1, 1) for n in graph.of(Slice))


def test_fastestdet() -> None:
    graph = import_model(str(real_model("fastestdet").path)).graph
    PassManager("default").run(graph)
    assert len(graph.of(Gather)) == 26 and len(graph.of(Transpose)) == 15
    outcome = PassManager("track-channels,choose-layout(inputs='nhwc',outputs='nhwc')").run(graph, debug=True)
    assert outcome.ledger.counts()["track-channels"] == 1
    assert not graph.of(Gather) and len(graph.of(Transpose)) == 2
    assert max(len(n.inputs) for n in graph.of(Concat)) == 5
    assert outcome.ledger.measured["transposes"]["out"] == 0


def test_a_reader_of_all_channels_takes_them_as_they_are() -> None:
    net = Net()
    x = net(MaxPool(**WINDOW), net.input(2, 6, 4, 4))
    graph = becomes(TrackChannels(), net.returns(conv(shuffled(x, 3), 4, 1, (3, 3))), {"max_pool": 1, "conv": 1})
    assert [n.op.values()["groups"] for n in graph.of(Conv)] == [1]


def test_weights_are_reordered_where_the_channels_are() -> None:
    """Channel 2 i of x goes one way, channel 2 i + 1 another."""
    net = Net()
    x = net(PRelu(), conv(net.input(1, 3, 8, 8), 64), np.arange(64.0).reshape(64, 1, 1))
    even, odd = gathered(x)
    graph = net.returns(conv(even, 3), conv(odd, 3))
    becomes(TrackChannels(), graph, {"conv": 3, "prelu": 1, "slice": 2})
    slope = graph.of(PRelu)[0].inputs[1]
    assert slope is not None and slope.data is not None
    assert slope.data.reshape(-1).tolist() == [*range(0, 64, 2), *range(1, 64, 2)]
    assert [n.op.values()["starts"][1] for n in graph.of(Slice)] == [0, 32]


def test_a_weight_of_two_convolutions_is_not_changed() -> None:
    net = Net()
    w = net.graph.const(np.random.default_rng(0).normal(size=(32, 32, 1, 1)).astype(np.float32))
    one = Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    x = net(one, net.input(1, 32, 8, 8), Term(net, w))
    even, odd = gathered(x)
    graph = net.returns(net(one, net(Concat(axis=1), odd, even), Term(net, w)), x)
    check(TrackChannels(), graph, np.random.default_rng(0))
    assert graph.of(Conv)[0].inputs[1] is w


def test_a_network_without_shuffles_stays() -> None:
    net = Net()
    x = net.input(1, 3, 8, 8)
    left, right = conv(x, 32), conv(x, 32)
    both = net(Concat(axis=1), left, net(Relu(), right))
    stays(TrackChannels(), net.returns(conv(net(Concat(axis=1), both, conv(both, 32)), 4)))
    net = Net()
    a, b = parts(conv(net.input(1, 3, 8, 8), 64), 16, 48)
    stays(TrackChannels(), net.returns(conv(a, 4), conv(b, 4)))


def test_other_readers_keep_the_order() -> None:
    for reader in ("output", "grouped", "add"):
        net = Net()
        y = shuffled(conv(net.input(1, 3, 8, 8), 64), 2)
        y = conv(y, 64, 4) if reader == "grouped" else net(Add(), y, y) if reader == "add" else y
        stays(TrackChannels(), net.returns(y))


def test_single_channels_are_gathered_rather_than_cut() -> None:
    """Nothing gives the channels of an input in another order."""
    net = Net()
    x = net.input(1, 32, 8, 8)
    even, odd = gathered(net(Relu(), x))
    stays(TrackChannels(), net.returns(conv(even, 4), conv(odd, 4)))


def test_concats_of_many_pieces() -> None:
    """The smallest neighbours first, until there are at most so many."""
    assert joins([3, 1, 1, 9], 2) == [(1, 2), (0, 2), (0, 2)]
    assert joins([8, 1, 2, 8, 8, 8, 8], 5) == [(0, 3), (0, 5)]
    assert joins([1, 1, 1], 5) == [(0, 3)]
    assert joins([4], 5) == []
    with pytest.raises(UsageError, match="at least 2"):
        TrackChannels(most=1)


KINDS = ("conv", "relu", "depthwise", "prelu", "norm", "pool", "resize", "grouped", "add")
MOVES = ("concat", "halves", "shuffle", "gather", "take", "slice")


def grow(seed: int, size: int, batch: int, kinds: tuple[str, ...]) -> Graph:
    """A random network of images of one size, most of which are read by something."""
    rng = np.random.default_rng(seed)
    net = Net()
    images = [conv(net.input(batch, 3, 3, 3), 32), conv(net.input(batch, 4, 3, 3), 48)]
    for _ in range(size):
        at = int(rng.integers(max(0, len(images) - 4), len(images)))
        x, y = images[at], images[int(rng.integers(len(images)))]
        images += step(str(rng.choice(kinds)), x, y, rng)
    last = [conv(x, 2) if rng.random() < 0.8 else x for x in images[-3:]]
    return net.returns(*last)


def step(kind: str, x: Term, y: Term, rng: np.random.Generator) -> list[Term]:
    net = x.net
    n, c, h, w = x.value.type.dims
    simple: dict[str, Callable[[], Any]] = {
        "conv": lambda: conv(x, 8 * int(rng.integers(2, 9)), 1, (3, 3), bool(rng.random() < 0.5), pads=(1, 1, 1, 1)),
        "relu": lambda: net(Relu(), x),
        "depthwise": lambda: depthwise(x) if c > 1 else x,
        "prelu": lambda: net(PRelu(), x, rng.normal(size=(c, 1, 1))),
        "norm": lambda: net(BatchNorm(), x, *rng.uniform(0.5, 1.5, (4, c))),
        "pool": lambda: net(AveragePool(**WINDOW), x) if rng.random() < 0.5 else net(MaxPool(**WINDOW), x),
        "resize": lambda: net(Resize(sizes=(n, c, h, w), scales=(1.0, 1.0, 1.1, 1.1)), x),
        "grouped": lambda: conv(x, 32, 2) if c % 2 == 0 else x,
        "add": lambda: net(Add(), x, y) if y.value.type == x.value.type else x,
        "concat": lambda: net(Concat(axis=1), x, y) if c + y.value.type.dims[1] < 192 else x,
        "shuffle": lambda: shuffled(x, 2) if c % 2 == 0 else x,
        "take": lambda: net(Gather(axis=1), x, rng.permutation(c)[: max(1, int(rng.integers(c + 1)))]),
        "slice": lambda: net(Slice(starts=(0, 1, 0, 0), ends=(n, c, h, w), steps=(1, 2, 1, 1)), x) if c > 1 else x,
    }
    if kind == "halves":
        return halves(x) if c > 1 else [x]
    if kind == "gather":
        return list(gathered(x)) if c % 2 == 0 and n == 1 else [x]
    return [simple[kind]()]


@settings(max_examples=100)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(2, 24),
    batch=st.integers(1, 2),
    kinds=st.sampled_from([(*KINDS, *MOVES), ("conv", "conv", "relu", *MOVES), ("conv", "relu", "depthwise", *MOVES)]),
)
def test_random_networks(seed: int, size: int, batch: int, kinds: tuple[str, ...]) -> None:
    checked = check(TrackChannels(most=seed % 3 + 2), grow(seed, size, batch, kinds), np.random.default_rng(seed))
    assert sum(n.macs for n in checked.after.nodes) == sum(n.macs for n in checked.before.nodes)

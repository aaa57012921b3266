"""PadChannels: padding that pays is done and exact, padding that does not is declined with its numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.compare import compare_all
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ops.conv import Conv
from compiler.pass_manager import PassManager
from compiler.rewrite import Unobserved
from passes.pad_channels import PadChannels
from tests.passes.composed import Net, Term, becomes, inputs_of, run, stays

SLOW = PadChannels(array=8, unaligned=0.1, bandwidth=1e15)  # of a machine that is ten times slower beside the multiples


def conv(net: Net, x: Term, filters: int, kernel: int = 3, groups: int = 1, bias: bool = True) -> Term:
    rng = np.random.default_rng(filters + kernel)
    channels = x.value.type.dims[1] // groups
    op = Conv(strides=(1, 1), pads=(kernel // 2,) * 4, dilations=(1, 1), groups=groups)
    return net(
        op, x, rng.normal(size=(filters, channels, kernel, kernel)), *([rng.normal(size=filters)] if bias else [])
    )


def block(net: Net, x: Term, channels: int) -> Term:
    """An inverted residual."""
    wide = net(ops.Clip(low=0.0, high=6.0), conv(net, x, 2 * channels, 1))
    wide = net(ops.Relu(), conv(net, wide, 2 * channels, 3, groups=2 * channels))
    return conv(net, wide, channels, 1, bias=False) + x


def widths(graph: Graph) -> list[tuple[int, ...]]:
    return [n.inputs[1].type.dims[:2] for n in graph.nodes if isinstance(n.op, Conv) and n.inputs[1] is not None]


def test_channels_between_convolutions() -> None:
    net = Net()
    y = conv(net, net(ops.Relu(), conv(net, net.input(1, 8, 5, 5), 12)), 16)
    graph = becomes(SLOW, net.returns(y), {"conv": 2, "relu": 1})
    assert widths(graph) == [(16, 8), (16, 16)]


def test_residual_blocks_are_padded_as_one() -> None:
    net = Net()
    y = block(net, block(net, conv(net, net.input(1, 8, 6, 6), 12), 12), 12)
    graph = run_and_return(SLOW, net.returns(conv(net, net(ops.GlobalAveragePool(), y), 8, 1)))
    assert [w[0] for w in widths(graph)] == [16, 24, 24, 16, 24, 24, 16, 8]
    assert graph.op_counts["conv"] == 8 and "slice" not in graph.op_counts


def test_others_read_the_channels_that_there_were() -> None:
    net = Net()
    y = conv(net, net.input(1, 8, 5, 5), 12)
    z = conv(net, net(ops.Relu(), y), 16)
    graph = becomes(
        SLOW, net.returns(z, y, net(ops.Reshape(shape=(1, 300)), y)), {"conv": 2, "relu": 1, "reshape": 1, "slice": 1}
    )
    assert graph.outputs[1].type.shape == (1, 12, 5, 5)


def run_and_return(p: PadChannels, graph: Graph) -> Graph:
    assert run(p, graph).rules
    return graph


def test_the_ledger_has_the_gains_of_both_decisions() -> None:
    net = Net()
    y = conv(net, net(ops.Relu(), conv(net, net.input(1, 8, 5, 5), 12)), 16)
    taken = PassManager([SLOW]).run(net.returns(y).clone()).ledger.entries
    assert [(e.status, e.rule.partition(",")[0]) for e in taken] == [("applied", "12 channels to 16")]
    declined = PassManager([PadChannels(array=8)]).run(net.returns(y)).ledger.entries
    assert [(e.status, e.reason and e.reason.partition(",")[0]) for e in declined] == [
        ("declined", "does not pay by the roofline: 12 channels to 16")
    ]


@pytest.mark.parametrize("p", [PadChannels(), PadChannels(array=8, unaligned=0.1, bandwidth=1e3)])
def test_an_array_that_only_idles_and_a_slow_memory_gain_nothing(p: PadChannels) -> None:
    net = Net()
    stays(p, net.returns(conv(net, net(ops.Relu(), conv(net, net.input(1, 8, 5, 5), 12)), 16)))


def test_concatenations_grouped_and_computed_kernels_stay() -> None:
    net = Net()
    x = net.input(1, 12, 5, 5)
    joined = net(ops.Concat(axis=1), x, x)
    grouped = conv(net, joined, 12, groups=2)
    op = Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), groups=1)
    stays(SLOW, net.returns(grouped, net(op, x, net.input(12, 12, 3, 3))))


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    residual=st.lists(st.booleans(), min_size=5, max_size=5),
    array=st.sampled_from([4, 8]),
    seed=st.integers(0, 1000),
)
def test_it_is_exact_on_random_networks(counts: list[int], residual: list[bool], array: int, seed: int) -> None:
    net = Net()
    x = net.input(1, 3, 6, 6)
    for count, doubled in zip(counts, residual, strict=False):
        x = net(ops.Relu(), conv(net, x, count))
        x = block(net, x, count) if doubled else x
    graph = net.returns(x, net(ops.GlobalAveragePool(), x))
    feeds = inputs_of(graph, seed=seed)
    before = evaluate(graph, feeds)
    PadChannels(array=array, unaligned=0.05, bandwidth=1e15).run(graph, Unobserved())
    graph.verify()
    assert all(c.psnr_db > 100 for c in compare_all(before, evaluate(graph, feeds)))

"""HoistSlice: only what is read of a sequence is computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.graph import Graph
from compiler.ops.activation import Relu
from compiler.ops.attention import Attention
from compiler.ops.index import Gather
from compiler.ops.matmul import Dense
from compiler.ops.parts import Slice
from compiler.ops.shape import Reshape, Transpose
from compiler.ops.softmax import Softmax
from passes.hoist_slice import HoistSlice
from tests.passes.blocks import block, layer_norm
from tests.passes.composed import Net, Term, run, stays
from tests.passes.weighted import dense


def rows(x: Term, start: int, end: int) -> Term:
    """Places `start` to `end` of a sequence [B,S,N]."""
    batch, _, width = x.value.type.dims
    return x.net(Slice(starts=(0, start, 0), ends=(batch, end, width), steps=(1, 1, 1)), x)


def beside_attention(net: Net, *results: Term) -> Graph:
    q, k, v = (net.input(1, 2, 3, 4) for _ in range(3))
    return net.returns(*results, net(Attention(scale=0.5), q, k, v))


@pytest.mark.parametrize("place", [0, 3, -1])
def test_the_last_block_works_on_the_token_that_is_read(place: int) -> None:
    net = Net()
    y = net(Gather(axis=1), layer_norm(block(block(net.input(2, 4, 6)))), np.array(place))
    graph = net.returns(dense(y, 3))
    before = sum(n.macs for n in graph.nodes)
    run(HoistSlice(), graph)
    shapes = sorted((t.dims for n in graph.of(Attention) for t in n.input_types[:2] if t is not None), reverse=True)
    assert shapes == [(2, 2, 4, 3)] * 3 + [(2, 2, 1, 3)]  # keys of both blocks, queries of the first and of the last
    assert sum(n.macs for n in graph.nodes) < 0.75 * before


def test_a_slice_in_front_of_all_that_computes_rows() -> None:
    net = Net()
    x = net.input(2, 4, 6)
    y = net(Relu(), dense(layer_norm(x), 6)) * np.arange(24.0).reshape(4, 6) + x
    graph = beside_attention(net, rows(y, 1, 3))
    run(HoistSlice(), graph)
    assert {n.output.type.dims for n in graph.nodes if n.output.type.rank == 3} == {(2, 2, 6)}
    assert all(n.inputs[0] is x.value for n in graph.of(Slice))


def test_equal_readers_are_one_part() -> None:
    net = Net()
    y = dense(net.input(2, 4, 6), 6)
    graph = beside_attention(
        net, rows(y, 1, 2), net(Gather(axis=1), y, np.array([1])), net(Gather(axis=1), y, np.array(-3))
    )
    run(HoistSlice(), graph)
    assert [n.output.type.dims for n in graph.of(Dense)] == [(2, 1, 6)]


def test_through_transposes_and_reshapes() -> None:
    net = Net()
    turned = net(Transpose(perm=(1, 0, 2)), net(Relu(), net.input(4, 2, 6)))
    graph = beside_attention(net, rows(net(Relu(), net(Reshape(shape=(2, 4, 6)), turned)), 0, 1))
    run(HoistSlice(), graph)
    assert [n.output.type.size for n in graph.of(Relu)] == [12, 12]


def test_a_mask_with_a_row_for_each_query() -> None:
    net = Net()
    q, k, v = (net.input(1, 2, 3, 4) for _ in range(3))
    y = net(Attention(scale=0.5), q, k, v, net.input(3, 3))
    part = net(Slice(starts=(0, 0, 1, 0), ends=(1, 2, 2, 4), steps=(1,) * 4), y)
    graph = net.returns(part)
    assert run(HoistSlice(), graph).rules == ["part"]
    assert [t.dims for t in graph.of(Attention)[0].input_types if t is not None] == [
        (1, 2, 1, 4), (1, 2, 3, 4), (1, 2, 3, 4), (1, 3),
    ]  # fmt: skip


OTHER: dict[str, Callable[[Term], tuple[Term, ...]]] = {
    "read whole": lambda x: (rows(y := dense(x, 6), 0, 1), y),
    "different parts": lambda x: (rows(y := dense(x, 6), 0, 1), rows(y, 1, 2)),
    "a step": lambda x: (x.net(Slice(starts=(0, 0, 0), ends=(2, 3, 6), steps=(1, 2, 1)), dense(x, 6)),),
    "nothing": lambda x: (rows(dense(x, 6), 1, 1),),
    "along the features of a dense layer": lambda x: (
        x.net(Slice(starts=(0, 0, 1), ends=(2, 4, 3), steps=(1, 1, 1)), dense(x, 6)),
    ),
    "along the axis of a softmax": lambda x: (rows(x.net(Softmax(axis=1), x), 0, 1),),
    "several places": lambda x: (x.net(Gather(axis=1), dense(x, 6), np.array([0, 2])),),
    "rows that are cut otherwise": lambda x: (rows(x.net(Reshape(shape=(2, 6, 4)), x), 0, 1),),
}


@pytest.mark.parametrize("results", OTHER.values(), ids=OTHER.keys())
def test_others_stay(results: Callable[[Term], tuple[Term, ...]]) -> None:
    net = Net()
    stays(HoistSlice(), beside_attention(net, *results(net.input(2, 4, 6))))


def test_causal_queries_stay() -> None:
    net = Net()
    y = net(Attention(scale=0.5, causal=True), *(net.input(1, 2, 3, 4) for _ in range(3)))
    stays(HoistSlice(), net.returns(net(Slice(starts=(0, 0, 1, 0), ends=(1, 2, 2, 4), steps=(1,) * 4), y)))


def test_graphs_without_attention_stay() -> None:
    net = Net()
    stays(HoistSlice(), net.returns(rows(dense(net.input(2, 4, 6), 6), 0, 1)))

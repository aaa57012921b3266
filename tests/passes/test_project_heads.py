"""ProjectHeads: queries, keys and values of an attention as one product."""

from __future__ import annotations

import pytest

from compiler.graph import Graph
from compiler.ops.attention import Attention
from compiler.ops.matmul import Dense
from compiler.ops.parts import Split
from compiler.tensor import F16, F32, DType
from passes.project_heads import ProjectHeads
from tests.passes.blocks import heads, thirds
from tests.passes.composed import Net, Term, becomes, run, stays

WIDE = ProjectHeads(min_width=3)
NARROW = ProjectHeads(min_width=4)


def attended(net: Net, q: Term, k: Term, v: Term, *mask: Term) -> Graph:
    return net.returns(net(Attention(scale=0.5), q, k, v, *mask))


@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("biases", [(True, True, True), (True, False, True), (False, False, False)])
def test_wide_heads_of_one_input(dtype: DType, biases: tuple[bool, ...]) -> None:
    net = Net(dtype)
    x = net.input(2, 4, 5)
    graph = attended(net, *(heads(x, 2, 3, bias=b) for b in biases))
    added = {"add": 1} if any(biases) else {}
    becomes(WIDE, graph, {"reshape": 1, "matmul": 1, "split": 1, "attention": 1, **added})
    assert [n.op for n in graph.of(Split)] == [Split(axis=1, sizes=(2, 2, 2))]
    assert [n.op for n in graph.of(Attention)] == [Attention(scale=1.0)]


@pytest.mark.parametrize("bias", [True, False])
def test_narrow_heads_of_one_input(bias: bool) -> None:
    net = Net()
    x = net.input(2, 4, 5)
    graph = attended(net, *(heads(x, 2, 3, bias=bias) for _ in range(3)))
    becomes(NARROW, graph, {"dense": 1, "reshape": 1, "transpose": 1, "split": 1, "attention": 1})
    assert [len(n.inputs) for n in graph.of(Dense)] == [2 + bias]


@pytest.mark.parametrize("p", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("kind", ["split", "slice", "gather"])
def test_thirds_of_one_layer(p: ProjectHeads, kind: str) -> None:
    net = Net()
    graph = attended(net, *thirds(net.input(2, 4, 5), 2, 3, kind))
    run(p, graph)
    assert {"transpose": graph.op_counts.get("transpose", 0), "split": 1} == {"transpose": p is NARROW, "split": 1}
    assert max(v.type.rank for n in graph.nodes for v in n.outputs) == 4


def test_keys_and_values_of_another_sequence() -> None:
    net = Net()
    x, y = net.input(2, 4, 5), net.input(2, 6, 7)
    graph = attended(net, heads(x, 2, 3), heads(y, 2, 3), heads(y, 2, 3))
    becomes(WIDE, graph, {"reshape": 2, "matmul": 2, "add": 2, "split": 1, "attention": 1})


def test_few_keys_for_many_queries_and_a_mask() -> None:
    net = Net()
    x = net.input(2, 4, 5)
    graph = attended(net, heads(x, 4, 3), heads(x, 2, 3), heads(x, 2, 3), net.input(4, 4))
    run(WIDE, graph)
    assert [n.op for n in graph.of(Split)] == [Split(axis=1, sizes=(4, 2, 2))]


def test_values_of_another_width_are_computed_apart() -> None:
    net = Net()
    x = net.input(2, 4, 5)
    graph = attended(net, heads(x, 2, 3), heads(x, 2, 3), heads(x, 2, 6))
    assert run(WIDE, graph).rules == ["projection"]
    assert graph.op_counts["matmul"] == 2


def test_work_is_the_same() -> None:
    net = Net()
    x = net.input(2, 4, 5)
    graph = attended(net, *(heads(x, 2, 3) for _ in range(3)))
    before = sum(n.macs for n in graph.nodes)
    run(WIDE, graph)
    assert sum(n.macs for n in graph.nodes) == before


def test_others_stay() -> None:
    net = Net()
    stays(WIDE, attended(net, *(net.input(2, 2, 4, 3) for _ in range(3))))
    net = Net()
    x = net.input(2, 4, 5)
    q, k, v = (heads(x, 2, 3) for _ in range(3))
    stays(WIDE, net.returns(net(Attention(scale=0.5), q, k, v), k))


@pytest.mark.parametrize("order", ["kkv", "qkk", "qkq"])
def test_heads_that_are_read_twice_are_not_computed_twice(order: str) -> None:
    net = Net()
    x = net.input(2, 4, 5)
    parts = {name: heads(x, 2, 3) for name in dict.fromkeys(order)}
    stays(WIDE, attended(net, *(parts[name] for name in order)))


def test_narrow_heads_of_different_inputs_keep_their_layers() -> None:
    net = Net()
    graph = net.returns(net(Attention(scale=1.0), *(heads(net.input(2, 4, 5), 2, 3) for _ in range(3))))
    stays(NARROW, graph)


@pytest.mark.parametrize("kind", ["split", "slice", "gather"])
def test_thirds_that_are_read_elsewhere_stay(kind: str) -> None:
    net = Net()
    q, k, v = thirds(net.input(2, 4, 5), 2, 3, kind)
    stays(WIDE, net.returns(net(Attention(scale=0.5), q, k, v), k))
    net = Net()
    q, k, v = thirds(net.input(2, 4, 5), 2, 3, kind)
    stays(WIDE, net.returns(net(Attention(scale=0.5), q, k, k), v))

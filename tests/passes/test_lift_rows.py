"""LiftRows: sequences as rows of rank 4."""

from __future__ import annotations

import numpy as np

from compiler.graph import Graph
from compiler.ops.activation import Gelu
from compiler.ops.attention import Attention
from compiler.ops.matmul import Dense
from compiler.ops.norm import LayerNorm
from compiler.ops.softmax import Softmax
from passes.contract_heads import ContractHeads
from passes.lift_rows import LiftRows
from passes.merge_reshapes import MergeReshapes
from passes.project_heads import ProjectHeads
from passes.remove_identity import RemoveIdentity
from tests.passes.blocks import block, layer_norm
from tests.passes.composed import Net, Term, becomes, run, stays
from tests.passes.weighted import dense


def beside_attention(net: Net, *results: Term) -> Graph:
    q, k, v = (net.input(1, 2, 3, 4) for _ in range(3))
    return net.returns(*results, net(Attention(scale=0.5), q, k, v))


def test_layers_of_rows() -> None:
    net = Net()
    x = net.input(2, 4, 6)
    y = net(Gelu(), dense(layer_norm(x), 6)) + np.ones((1, 4, 6)) + np.ones(6) + x
    graph = beside_attention(net, y)
    becomes(LiftRows(), graph, {"reshape": 2, "layer_norm": 1, "dense": 1, "gelu": 1, "add": 3, "attention": 1})
    assert {n.output.type.dims for n in graph.of(Dense, LayerNorm, Gelu)} == {(2, 1, 4, 6)}
    assert [n.op.axis for n in graph.of(LayerNorm)] == [3]  # type: ignore[attr-defined]  # of a norm


def test_results_that_are_read_as_they_were() -> None:
    net = Net()
    y = dense(net.input(2, 4, 6), 6)
    graph = beside_attention(net, y, net(Softmax(axis=1), y), net(Gelu(), y))
    becomes(LiftRows(), graph, {"reshape": 3, "dense": 1, "softmax": 1, "gelu": 1, "attention": 1})


def test_a_block_has_no_reshape_inside() -> None:
    net = Net()
    graph = net.returns(block(block(net.input(2, 4, 6))))
    for p in (ProjectHeads(min_width=2), ContractHeads(), LiftRows(), MergeReshapes(), RemoveIdentity()):
        run(p, graph)
    assert graph.op_counts["reshape"] == 2


def test_others_stay() -> None:
    net = Net()
    stays(LiftRows(), net.returns(dense(net.input(2, 4, 6), 6)))
    net = Net()
    matrix, image, loose = dense(net.input(4, 6), 6), net.input(1, 2, 3, 3), net.input(2, 4, 6)
    of_columns = net(LayerNorm(axis=1, eps=1e-3), loose, np.ones((4, 6)), np.ones((4, 6)))
    stays(LiftRows(), beside_attention(net, matrix, net(Gelu(), image), net(Gelu(), loose) + loose, of_columns))


def test_rows_of_unbound_length_stay() -> None:
    net = Net()
    stays(LiftRows(), beside_attention(net, dense(net.input("n", 4, 6), 6)))

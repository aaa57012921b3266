"""ContractHeads: the layer behind an attention reads its heads where they lie."""

from __future__ import annotations

import pytest

from compiler.graph import Graph
from compiler.ops.attention import Attention
from compiler.ops.conv import Conv
from compiler.ops.shape import Reshape, Transpose
from compiler.tensor import F16, F32, DType
from passes.choose_layout import ChooseLayout
from passes.contract_heads import ContractHeads
from tests.passes.blocks import merged
from tests.passes.composed import Net, Term, becomes, run, stays
from tests.passes.weighted import dense


def attended(net: Net, keys: int = 6) -> Term:
    q, kv = net.input(2, 3, 4, 5), net.input(2, 3, keys, 5)
    return net(Attention(scale=0.5), q, kv, kv)


@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
def test_heads_become_rows_of_a_convolution(dtype: DType, bias: bool, transposed: bool) -> None:
    net = Net(dtype)
    graph = net.returns(dense(merged(attended(net)), 7, bias=bias, transposed=transposed))
    becomes(ContractHeads(), graph, {"attention": 1, "transpose": 2, "conv": 1, "reshape": 1})
    (conv,) = graph.of(Conv)
    assert conv.input_types[1] is not None and conv.input_types[1].dims == (7, 5, 3, 1)
    assert len(conv.inputs) == 2 + bias


def test_no_element_is_moved_channels_last() -> None:
    net = Net()
    graph = net.returns(dense(merged(attended(net)), 7))
    run(ContractHeads(), graph)
    run(ChooseLayout(), graph)
    assert not graph.op_counts.get("convert_layout")


def test_rows_of_a_matrix() -> None:
    net = Net()
    rows = net(Reshape(shape=(8, 15)), net(Transpose(perm=(0, 2, 1, 3)), attended(net)))
    becomes(ContractHeads(), net.returns(dense(rows, 7)), {"attention": 1, "transpose": 2, "conv": 1, "reshape": 1})


def read_twice(net: Net) -> Graph:
    rows = merged(attended(net))
    return net.returns(dense(rows, 7), rows)


def of_another_layer(net: Net) -> Graph:
    return net.returns(dense(merged(net.input(2, 3, 4, 5)), 7))


def otherwise_cut(net: Net) -> Graph:
    turned = net(Transpose(perm=(0, 2, 1, 3)), attended(net))
    return net.returns(dense(net(Reshape(shape=(2, 12, 5)), turned), 7))


@pytest.mark.parametrize("made", [read_twice, of_another_layer, otherwise_cut])
def test_others_stay(made: object) -> None:
    assert callable(made)
    stays(ContractHeads(), made(Net()))

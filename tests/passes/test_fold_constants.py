"""FoldConstants: what becomes a constant, and what would cost too much memory."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.conv import Conv
from compiler.ops.elementwise import Add, Cast, Mul, Sqrt
from compiler.ops.generate import ConstantOfShape
from compiler.ops.matmul import MatMul
from compiler.ops.quant import DequantizeLinear
from compiler.ops.shape import Expand, Reshape, ShapeOf, SizeOf, Transpose
from compiler.tensor import F16, F32, DType
from passes.fold_constants import FoldConstants
from tests.passes.composed import Net, Term, becomes, run, stays

CONV = Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))


@pytest.mark.parametrize("dtype", [F32, F16])
def test_a_tree_of_constants_is_one_constant(dtype: DType) -> None:
    net = Net(dtype)
    c = net(Sqrt(), net(Add(), np.array([1.0, 3.0]), net(Mul(), 2.0, np.array([4.0, 3.0]))))
    graph = becomes(FoldConstants(), net.returns(net.input(3, 2) + c), {"add": 1})
    (added,) = (v.data for v in graph.constants)
    assert added is not None
    np.testing.assert_array_equal(added, np.array([3, 3], dtype.numpy))


def test_what_depends_on_an_input_stays() -> None:
    net = Net()
    stays(FoldConstants(), net.returns(net(Sqrt(), net.input(2) * 2.0)))


def test_a_constant_output_stays_an_output() -> None:
    net = Net()
    net.input(1)
    graph = becomes(FoldConstants(), net.returns(net(Sqrt(), np.array([4.0]))), {})
    assert graph.outputs[0].data is not None
    assert graph.outputs[0].data.tolist() == [2.0]


def test_shape_and_size_of_a_static_value() -> None:
    net = Net()
    x = net.input(2, 3)
    graph = becomes(FoldConstants(), net.returns(net(ShapeOf(start=1), x), net(SizeOf(), x)), {})
    assert [v.data.tolist() for v in graph.outputs if v.data is not None] == [[3], 6]


def test_shape_of_an_unbound_value_stays() -> None:
    net = Net()
    stays(FoldConstants(), net.returns(net(ShapeOf(), net.input("n", 3))))


def test_a_large_expansion_stays_a_layer() -> None:
    net = Net()
    stays(
        FoldConstants(), net.returns(net(Add(), net.input(1024, 1024), net(Expand(shape=(1024, 1024)), np.ones(1024))))
    )


def test_growth_has_a_limit() -> None:
    net = Net()
    x = net.input(8, 8)
    graph = net.returns(net(Add(), x, net(Expand(shape=(8, 8)), np.ones(8))))
    stays(FoldConstants(max_growth=100), graph)
    becomes(FoldConstants(max_growth=224), graph, {"add": 1})


def test_a_large_weight_of_a_convolution_becomes_constant() -> None:
    net = Net()
    w = net(ConstantOfShape(shape=(256, 1030, 1, 1), value=0.5))
    becomes(FoldConstants(), net.returns(net(CONV, net.input(1, 1030, 2, 2), w)), {"conv": 1})


def test_so_does_a_matrix_behind_a_transpose_without_a_copy() -> None:
    net = Net()
    w = net(Transpose(perm=(1, 0)), net(ConstantOfShape(shape=(600, 700), value=0.5)))
    graph = becomes(FoldConstants(), net.returns(net(MatMul(), net.input(1, 700), w)), {"matmul": 1})
    (weight,) = (v.data for v in graph.constants)
    assert weight is not None
    assert weight.strides == (0, 0)


def test_so_does_one_behind_a_reshape_and_a_transpose() -> None:
    net = Net()
    flat = net(Reshape(shape=(600, 700)), net(ConstantOfShape(shape=(1, 1, 600, 700), value=0.5)))
    w = net(Transpose(perm=(1, 0)), flat)
    becomes(FoldConstants(), net.returns(net(MatMul(), net.input(1, 700), w)), {"matmul": 1})


def test_a_transpose_of_a_large_constant_is_a_view() -> None:
    net = Net()
    w = np.random.default_rng(0).normal(size=(600, 700)).astype(np.float32)
    graph = becomes(
        FoldConstants(), net.returns(net(MatMul(), net.input(1, 700), net(Transpose(perm=(1, 0)), w))), {"matmul": 1}
    )
    (weight,) = (v.data for v in graph.constants)
    assert weight is not None
    assert weight.strides == (4, 2800)


def test_a_large_constant_that_others_read_is_not_doubled_by_a_transpose() -> None:
    net = Net()
    w = Term(net, net.graph.const(np.ones((600, 700), np.float32)))
    y = net(MatMul(), net.input(1, 700), net(Transpose(perm=(1, 0)), w))
    stays(FoldConstants(), net.returns(y, net.input(600, 700) * w))


def test_a_cast_does_not_double_a_large_matrix() -> None:
    net = Net()
    w = net(Cast(to="f32"), Term(net, net.graph.const(np.ones((800, 800), np.float16))))
    stays(FoldConstants(), net.returns(net(MatMul(), net.input(1, 800), w)))


def test_the_dequantization_of_a_large_constant_stays() -> None:
    net = Net()
    w = net(DequantizeLinear(), np.ones(5000, np.int8), np.array(0.5, np.float32))
    stays(FoldConstants(), net.returns(net.input(5000) * w))


def test_a_small_dequantization_is_evaluated() -> None:
    net = Net()
    w = net(DequantizeLinear(), np.array([1, 2], np.int8), np.array(0.5, np.float32))
    run(FoldConstants(), net.returns(net.input(2) * w))
    assert [v.data.tolist() for v in net.graph.constants if v.data is not None] == [[0.5, 1.0]]


def test_provenance_is_united() -> None:
    net = Net()
    a, b = (net.graph.const(np.ones(2, np.float32), n, frozenset((n,))) for n in "ab")
    (c,) = net.graph.add(Add(), a, b)
    (y,) = net.graph.add(Mul(), net.input(2).value, c)
    net.graph.set_outputs([y], ["y"])
    run(FoldConstants(), net.graph)
    assert [v.origin for v in net.graph.constants] == [frozenset("ab")]

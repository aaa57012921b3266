"""SplitQlinear: one form for quantized models, and constants that know how they are stored."""

from __future__ import annotations

import numpy as np
import pytest

from compiler import ops
from compiler.graph import Graph
from compiler.tensor import I8, I16, I32, U8, QuantParams
from passes.split_qlinear import SplitQlinear
from tests.passes.composed import Net, Number, Record, Term, becomes, stays

SCALE = np.array(0.25, np.float32)


def constants(graph: Graph) -> list[tuple[list[float], QuantParams | None]]:
    """The numbers and annotations of constants that have one."""
    return [(v.data.reshape(-1).tolist(), v.type.quant) for v in graph.constants if v.data is not None and v.type.quant]


def split(graph: Graph) -> Graph:
    record = Record()
    assert SplitQlinear().run(graph, record) == len(record.rules) > 0
    graph.verify()
    assert SplitQlinear().run(graph, Record()) == 0
    return graph


@pytest.mark.parametrize(
    ("stored", "zero", "expected"),
    [
        (np.array([0, 128, 255], np.uint8), np.uint8(128), QuantParams((0.25,), (0,), None, I8)),
        (np.array([0, 128, 255], np.uint8), np.uint8(3), QuantParams((0.25,), (-125,), None, I8)),
        (np.array([-128, 0, 127], np.int8), np.int8(-5), QuantParams((0.25,), (-5,), None, I8)),
        (np.array([0, 9, 65535], np.uint16), np.uint16(32768), QuantParams((0.25,), (0,), None, I16)),
        (np.array([-7, 0, 9], np.int32), np.int32(0), QuantParams((0.25,), (0,), None, I32)),
    ],
)
def test_a_constant_keeps_its_integers(stored: Number, zero: Number, expected: QuantParams) -> None:
    net = Net()
    w = net(ops.DequantizeLinear(), stored, SCALE, np.array(zero))
    graph = split(net.returns(net.input(3) * w))
    held = (np.asarray(stored).astype(np.int64) - int(np.asarray(zero))) * 0.25
    assert constants(graph) == [(held.tolist(), expected)]
    assert graph.op_counts == {"mul": 1}


def test_the_scales_of_an_axis_are_kept() -> None:
    net = Net()
    w = net(ops.DequantizeLinear(axis=0), np.array([[1, 2], [3, 4]], np.int8), np.array([0.5, 2.0]))
    graph = split(net.returns(net.input(2, 2) * w))
    assert constants(graph) == [([0.5, 1.0, 6.0, 8.0], QuantParams((0.5, 2.0), (0, 0), 0, I8))]


def test_unknown_scales_and_blocks_stay() -> None:
    net = Net()
    y = net(ops.DequantizeLinear(), np.array([1, 2], np.int8), net.input())
    z = net(ops.DequantizeLinear(axis=0, block_size=2), np.array([1, 2], np.int8), np.array([0.5]))
    stays(SplitQlinear(), net.returns(y, z))


def test_layers_that_move_numbers_let_q_and_dq_meet() -> None:
    net = Net()
    q = net(ops.QuantizeLinear(), net.input(1, 2, 4, 4), SCALE, np.array(7, np.uint8))
    pooled = net(ops.MaxPool(kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0), dilations=(1, 1)), q)
    flat = net(ops.Reshape(shape=(1, 8)), net(ops.Transpose(perm=(0, 2, 3, 1)), pooled))
    y = net(ops.DequantizeLinear(), flat, SCALE, np.array(7, np.uint8))
    graph = becomes(
        SplitQlinear(),
        net.returns(net(ops.Relu(), y)),
        {"quantize_linear": 1, "dequantize_linear": 1, "max_pool": 1, "transpose": 1, "reshape": 1, "relu": 1},
    )
    (dequantize,) = graph.of(ops.DequantizeLinear)
    assert [type(n.op) for n in dequantize.output.users] == [ops.MaxPool]


def test_a_quantized_result_is_quantized_last() -> None:
    net = Net()
    q = net(ops.QuantizeLinear(), net.input(2, 3), SCALE, np.array(7, np.uint8))
    graph = split(net.returns(net(ops.Reshape(shape=(6,)), q)))
    assert isinstance(graph.outputs[0].node and graph.outputs[0].node.op, ops.QuantizeLinear)
    assert graph.outputs[0].type.dtype is U8


def convolved(net: Net, bias: Number | None) -> Term:
    rng = np.random.default_rng(0)
    conv = ops.QLinearConv(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
    w = rng.integers(0, 255, (4, 3, 3, 3)).astype(np.uint8)
    scales = np.array([0.01, 0.02, 0.03, 0.04], np.float32)
    zeros = np.full(4, 120, np.uint8)
    x = net.input(1, 3, 5, 5, dtype=U8)
    return net(
        conv, x, np.array(0.5), np.array(3, np.uint8), w, scales, zeros, np.array(2.0), np.array(99, np.uint8), bias
    )


@pytest.mark.parametrize("bias", [None, np.array([9, -8, 7, -600], np.int32)])
def test_a_convolution_is_split(bias: Number | None) -> None:
    """The weight and the bias become constants; the result is the same but for sums near a half."""
    net = Net()
    graph = becomes(
        SplitQlinear(),
        net.returns(convolved(net, bias)),
        {"dequantize_linear": 1, "conv": 1, "quantize_linear": 1},
    )
    annotated = [q for _, q in constants(graph)]
    scales = np.array([0.01, 0.02, 0.03, 0.04], np.float32)
    weight = QuantParams(tuple(scales.tolist()), (-8,) * 4, 0, I8)
    assert annotated[0] == weight
    if bias is not None:
        products = np.float32(0.5) * scales
        assert annotated[1] == QuantParams(tuple(products.tolist()), (0,) * 4, 0, I32)


def test_a_product_is_split() -> None:
    net = Net()
    y = np.random.default_rng(1).integers(-128, 127, (3, 2)).astype(np.int8)
    x, one, zero = net.input(4, 3, dtype=U8), np.array(0.5), np.array(3, np.uint8)
    z = net(ops.QLinearMatMul(), x, one, zero, y, one, np.array(0, np.int8), np.array(4.0), zero)
    becomes(SplitQlinear(), net.returns(z), {"dequantize_linear": 1, "matmul": 1, "quantize_linear": 1})


def test_scales_that_are_computed_keep_a_layer_whole() -> None:
    net = Net()
    y = np.ones((3, 2), np.int8)
    x, one, zero = net.input(4, 3, dtype=U8), np.array(0.5), np.array(3, np.uint8)
    z = net(ops.QLinearMatMul(), x, net.input(), zero, y, one, np.array(0, np.int8), np.array(4.0), zero)
    stays(SplitQlinear(), net.returns(z))

"""ONNX Runtime's operators on integers (domain com.microsoft) as layers of floats between DQ and Q layers.

Source: onnxruntime, docs/ContribOperators.md and onnxruntime/core/graph/contrib_ops.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from compiler.graph import Value
from compiler.importers.registry import IMPORTERS, MICROSOFT, LayerBuilder, importer
from compiler.importers.shape import operand
from compiler.op import FROM_ONNX, OnnxNode, expect, normalize_axis
from compiler.ops.elementwise import Add, Mul, Where
from compiler.ops.integer import QLinearConv
from compiler.ops.matmul import MatMul
from compiler.ops.parts import Concat
from compiler.ops.quant import DequantizeLinear, QuantizeLinear
from compiler.ops.shape import Transpose

NAMESAKES = {
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearReduceMean": "ReduceMean",
    "QLinearSigmoid": "Sigmoid",
}


def _short(node: OnnxNode) -> str:
    return node.op_type.rpartition(".")[2]


def _optional(node: OnnxNode, index: int) -> Value | None:
    return operand(node, index) if node.has(index) else None


def _real(node: OnnxNode, b: LayerBuilder, index: int) -> Value:
    """Operand `index`, dequantized by the scale and the zero point that follow it."""
    return b.add(DequantizeLinear(), operand(node, index), operand(node, index + 1), _optional(node, index + 2))


def _stored(node: OnnxNode, b: LayerBuilder, y: Value, index: int, like: Value) -> Value:
    """y, quantized by scale `index` and the zero point that follows it, to the element type of `like`."""
    zero = _optional(node, index + 1)
    dtype = (like if zero is None else zero).type.dtype
    return b.add(QuantizeLinear(dtype=dtype.name), y, operand(node, index), zero)


def _namesake(op_type: str, node: OnnxNode, b: LayerBuilder, x: Value, opset: int | None = None) -> Value:
    """The layer of an operator of the default domain, with the attributes of the node."""
    plain = OnnxNode(op_type, opset or node.version, [x], node.attributes, 1, node.name)
    read = IMPORTERS.get(op_type)
    y = b.add(FROM_ONNX[op_type].from_onnx(plain), x) if read is None else read(plain, b)
    assert isinstance(y, Value)
    return y


def _turned(b: LayerBuilder, x: Value, *, back: bool = False) -> Value:
    """[N,*S,C] as [N,C,*S], or `back`."""
    rank = x.type.rank
    perm = (0, *range(2, rank), 1) if back else (0, rank - 1, *range(1, rank - 1))
    return b.add(Transpose(perm=perm), x)


@importer(*NAMESAKES, domain=MICROSOFT)
def unary(node: OnnxNode, b: LayerBuilder) -> Value:
    """The float operator on the dequantized operand; with `channels_last`, between transposes."""
    x, last = operand(node), bool(node.attr("channels_last", 0))
    real = _real(node, b, 0)
    y = _namesake(NAMESAKES[_short(node)], node, b, _turned(b, real) if last else real)
    return _stored(node, b, _turned(b, y, back=True) if last else y, 3, x)


@importer("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def binary(node: OnnxNode, b: LayerBuilder) -> Value:
    """The sum or product of the dequantized operands."""
    op = Add() if _short(node) == "QLinearAdd" else Mul()
    return _stored(node, b, b.add(op, _real(node, b, 0), _real(node, b, 3)), 6, operand(node))


@importer("QLinearWhere", domain=MICROSOFT)
def where(node: OnnxNode, b: LayerBuilder) -> Value:
    """A choice between dequantized operands."""
    return _stored(node, b, b.add(Where(), operand(node), _real(node, b, 1), _real(node, b, 4)), 7, operand(node, 1))


@importer("QLinearConcat", domain=MICROSOFT)
def concat(node: OnnxNode, b: LayerBuilder) -> Value:
    """Dequantized operands, joined; scale and zero point of the result come first."""
    count = len(node.inputs) - 2
    expect(count > 0 and count % 3 == 0, f"needs a scale and a zero point for each operand, not {count} operands")
    parts = [_real(node, b, i) for i in range(2, len(node.inputs), 3)]
    axis = normalize_axis(node.attr("axis"), parts[0].type.rank)
    return _stored(node, b, b.add(Concat(axis=axis), *parts), 0, operand(node, 2))


@importer("QLinearSoftmax", domain=MICROSOFT)
def softmax(node: OnnxNode, b: LayerBuilder) -> Value:
    """The softmax of the opset that an attribute names."""
    y = _namesake("Softmax", node, b, _real(node, b, 0), node.attr("opset"))
    return _stored(node, b, y, 3, operand(node))


@importer("QGemm", domain=MICROSOFT)
def gemm(node: OnnxNode, b: LayerBuilder) -> Value:
    """alpha a b + c, where the integers of c have the scale alpha a_scale b_scale; floats without y_scale."""
    x, y, y_scale = _real(node, b, 0), operand(node, 3), operand(node, 4)
    expect(x.type.rank == 2 and y.type.rank == 2, f"needs two matrices, got {x.type} and {y.type}")
    if node.attr("transA", 0):
        x = b.add(Transpose(perm=(1, 0)), x)
    if node.attr("transB", 0):
        y = _constant(b, y.data.T, y) if y.data is not None else b.add(Transpose(perm=(1, 0)), y)
    y_scale = _product(b, y_scale, b.const(node.attr("alpha", 1.0), like=y_scale))
    z = b.add(MatMul(), x, _columns(b, y, y_scale, _optional(node, 5)))
    if node.has(6):
        c, scale = operand(node, 6), _product(b, operand(node, 1), y_scale)
        z = b.add(Add(), z, b.add(DequantizeLinear(axis=None if scale.type.size == 1 else c.type.rank - 1), c, scale))
    return _stored(node, b, z, 7, operand(node)) if node.has(7) else z


def _columns(b: LayerBuilder, y: Value, scale: Value, zero: Value | None) -> Value:
    """A dequantized matrix with one scale, or one for each of its columns."""
    if scale.type.size == 1:
        return b.add(DequantizeLinear(), y, scale, zero)
    if zero is not None and zero.data is not None and zero.type.size == 1:
        zero = _constant(b, np.broadcast_to(zero.data.reshape(()), scale.type.dims), zero)
    return b.add(DequantizeLinear(axis=1), y, scale, zero)


def _product(b: LayerBuilder, x: Value, y: Value) -> Value:
    """The product of two scales, now if both are known: what is stored is looked for before constants are folded."""
    if x.data is None or y.data is None:
        return b.add(Mul(), x, y)
    return b.graph.const(np.asarray(x.data.reshape(()) * y.data if x.data.size == 1 else x.data * y.data))


def _constant(b: LayerBuilder, data: Any, like: Value) -> Value:  # Any: an array or a view of one
    return b.graph.const(np.ascontiguousarray(data), like.name, like.origin)


@importer("QLinearConv", domain=MICROSOFT)
def conv(node: OnnxNode, b: LayerBuilder) -> Value:
    """The operator of the default domain; with `channels_last`, between transposes."""
    last = bool(node.attr("channels_last", 0))
    inputs = [_optional(node, i) for i in range(len(node.inputs))]
    if last:
        inputs[0] = _turned(b, operand(node))
    y = b.add(QLinearConv.from_onnx(OnnxNode("QLinearConv", node.version, inputs, node.attributes)), *inputs)
    return _turned(b, y, back=True) if last else y


@importer("QuantizeLinear", domain=MICROSOFT)
def quantize(node: OnnxNode, b: LayerBuilder) -> Value:
    """The operator of the default domain, which takes 16 bits from its 21st opset on."""
    return b.add(QuantizeLinear.from_onnx(node), operand(node), operand(node, 1), _optional(node, 2))


@importer("DequantizeLinear", domain=MICROSOFT)
def dequantize(node: OnnxNode, b: LayerBuilder) -> Value:
    """The operator of the default domain, which takes 16 bits from its 21st opset on."""
    return b.add(DequantizeLinear.from_onnx(node), operand(node), operand(node, 1), _optional(node, 2))

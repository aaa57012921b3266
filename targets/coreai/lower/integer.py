"""Products of 8-bit integers, exact: matrices in int32, convolutions in fp32 as long as no sum leaves its 24 bits."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.integer import IntegerConvolution
from compiler.target import Need, op_need
from targets.coreai.lower.linear import convolved, per_channel, product
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.quant import saturated
from targets.coreai.lower.table import lowers
from targets.coreai.program import Var

EXACT = 1 << 24  # whole numbers up to here are exact in fp32


def _largest(v: Value | None, zero: Value | None) -> int:
    """The largest size of v - zero."""
    assert v is not None
    if v.data is not None and (zero is None or zero.data is not None):
        point = 0 if zero is None else np.asarray(zero.data).astype(np.int64).reshape(-1)
        return int(np.abs(np.asarray(v.data).astype(np.int64).reshape(len(v.data), -1).T - point).max(initial=0))
    return 255


def _operands_of(node: Node) -> tuple[Value | None, ...]:
    """x, its zero point, w, its zero point."""
    given = (*node.inputs, None, None, None)
    if isinstance(node.op, ops.QLinearConv):
        return given[0], given[2], given[3], given[5]
    return given[0], given[2], given[1], given[3]


def _is_exact(node: Node) -> bool:
    _, _, w, w_zero = _operands_of(node)
    assert w is not None
    return prod(w.type.dims[1:]) * _largest(w, w_zero) * 255 < EXACT


SMALL_SUMS = Need(
    text="sums of products below 2^24, where fp32 is exact (dequantize the operands and use Conv instead)",
    holds=_is_exact,
)
PLANES = op_need("one to three spatial axes", lambda op: 1 <= len(op.strides) <= 3)


def _centred(p: Lowering, v: Value | None, zero: Value | None, shape: tuple[int, ...], dtype: str) -> Var:
    """v - zero, with the zero point under a shape that broadcasts."""
    assert v is not None
    x = p.cast(p[v], dtype)
    if zero is None:
        return x
    point = p.cast(p[zero], dtype)
    return p.binary("sub", x, p.reshape(point, shape if prod(point.shape) > 1 else ()))


def _convolved(p: Lowering, node: Node, op: IntegerConvolution) -> Var:
    """The sums, whole numbers in fp32."""
    x, x_zero, w, w_zero = _operands_of(node)
    assert w is not None and x is not None
    weight = _weight(p, w, w_zero, (w.type.dims[0], *[1] * (w.type.rank - 1)))
    return convolved(p, _centred(p, x, x_zero, (), "fp32"), weight, op, node.output.type.dims)


def _weight(p: Lowering, w: Value, zero: Value | None, shape: tuple[int, ...]) -> Var:
    if w.data is None or (zero is not None and zero.data is None):
        return _centred(p, w, zero, shape, "fp32")
    point = np.zeros(1, np.float32) if zero is None else np.asarray(zero.data, np.float32).reshape(-1)
    point = point.reshape(shape) if point.size > 1 else point
    return p.floats(np.asarray(w.data, np.float32) - point, "fp32")


@lowers(ops.ConvInteger, needs=[PLANES, SMALL_SUMS])
def _conv_integer(p: Lowering, node: Node, op: ops.ConvInteger) -> None:
    p.finish(node, _convolved(p, node, op))


@lowers(ops.QLinearConv, needs=[PLANES, SMALL_SUMS])
def _qlinear_conv(p: Lowering, node: Node, op: ops.QLinearConv) -> None:
    total = _convolved(p, node, op)
    _, x_scale, _, _, w_scale, _, y_scale, y_zero, *bias = node.inputs
    rank = node.output.type.rank
    if bias and bias[0] is not None:
        total = p.binary("add", total, per_channel(p, p.cast(p[bias[0]], "fp32"), rank))
    over = (node.output.type.dims[1], *[1] * (rank - 2))
    p.bind(node.output, _requantized(p, node, total, (x_scale, w_scale, y_scale), y_zero, ((), over, ())))


def _requantized(
    p: Lowering,
    node: Node,
    total: Var,
    scales: tuple[Value | None, ...],
    zero: Value | None,
    shapes: tuple[tuple[int, ...], ...],
) -> Var:
    """round(total * (x_scale * y_scale / scale)) + zero, limited to the range of the result."""
    x, y, result = (_scale(p, v, shape) for v, shape in zip(scales, shapes, strict=True))
    factor = p.binary("divide", p.binary("mul", x, y), result)
    scaled = p.unary("round", p.binary("mul", total, factor))
    assert zero is not None
    shifted = p.binary("add", scaled, p.cast(p.reshape(p[zero], ()), "fp32"))
    return saturated(p, shifted, p.dtype(node.output.type.dtype), node.output.type.dtype)


def _scale(p: Lowering, v: Value | None, shape: tuple[int, ...]) -> Var:
    """A scale in fp32, also in an fp16 program; alone, or under a shape that broadcasts."""
    assert v is not None
    if v.data is not None:
        data = np.asarray(v.data, np.float32)
        return p.floats(data.reshape(shape if data.size > 1 else ()), "fp32")
    x = p.cast(p[v], "fp32")
    return p.reshape(x, shape if prod(x.shape) > 1 else ())


def _rows(v: Value | None) -> tuple[int, ...]:
    """One number for each row of a matrix, as it broadcasts."""
    assert v is not None
    return (v.type.dims[0], 1) if v.type.rank == 1 else v.type.dims


@lowers(ops.MatMulInteger)
def _matmul_integer(p: Lowering, node: Node, op: ops.MatMulInteger) -> None:
    x, y, x_zero, y_zero = (*node.inputs, None, None)[:4]
    left = _centred(p, x, x_zero, () if x_zero is None else _rows(x_zero), "int32")
    right = _centred(p, y, y_zero, () if y_zero is None else y_zero.type.dims, "int32")
    p.bind(node.output, product(p, left, right, node.output.type.dims))


@lowers(ops.QLinearMatMul)
def _qlinear_matmul(p: Lowering, node: Node, op: ops.QLinearMatMul) -> None:
    x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = node.inputs
    assert y_zero is not None and y_scale is not None
    left = _centred(p, x, x_zero, _rows(x_zero), "int32")
    right = _centred(p, y, y_zero, y_zero.type.dims, "int32")
    total = p.cast(product(p, left, right, node.output.type.dims), "fp32")
    shapes = (_rows(x_scale), y_scale.type.dims, ())
    p.bind(node.output, _requantized(p, node, total, (x_scale, y_scale, scale), zero, shapes))

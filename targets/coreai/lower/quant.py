"""Quantized values: the dialect's quantize and dequantize where they apply (8 bits, constant scales), else the
arithmetic that they stand for, in fp32; constants are dequantized now."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.numeric import integer_range
from compiler.ops.quant import Quantization
from compiler.target import Need, op_need
from compiler.tensor import DTYPES, DType
from targets.coreai.lower.activation import clipped
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.table import FILLED, IN_MEMORY, RANK, TABLE, lowers
from targets.coreai.program import Var

BYTES = ("i8", "u8")
WHOLE = op_need("no blocks of scales", lambda op: not op.block_size)
NO_FLOAT8 = op_need(
    "an integer type of at least 8 bits (floats and integers of fewer are not computed with here)",
    lambda op: DTYPES[op.dtype].is_integer and DTYPES[op.dtype].bits >= 8,
)


def _layered(node: Node, stored: DType) -> bool:
    given = (v for v in node.inputs[1:] if v is not None)
    return stored.name in BYTES and node.output.type.rank > 0 and all(v.data is not None for v in given)


def _scaling(p: Lowering, node: Node, op: Quantization, stored: DType) -> list[Var]:
    """Operands of quantize and dequantize: scale, zero point, a second offset of 0, and the axes of one scale."""
    scale, zero = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    assert scale is not None and scale.data is not None
    along = scale.data.ndim == 1 and scale.data.size > 1
    shape = scale.data.shape if along else ()
    point = np.zeros(shape) if zero is None else np.asarray(zero.data)
    held = p.dtype(stored)
    rank = node.output.type.rank
    return [
        p.floats(np.asarray(scale.data, np.float32).reshape(shape)),
        p.program.const(np.asarray(point, stored.numpy).reshape(shape), held),
        p.floats(np.zeros(shape)),
        p.axis(op.axis or 0) if along else p.ints(range(rank)),
    ]


def _spread(p: Lowering, op: Quantization, v: Value, rank: int) -> Var:
    """A scale or zero point as fp32, shaped to broadcast."""
    x = p.cast(p[v], "fp32")
    if op.axis is None or not x.shape:
        return p.reshape(x, ())
    return p.reshape(x, [x.shape[0] if i == op.axis else 1 for i in range(rank)])


@lowers(ops.QuantizeLinear, needs=[WHOLE, NO_FLOAT8])
def _quantize(p: Lowering, node: Node, op: ops.QuantizeLinear) -> None:
    stored = node.output.type.dtype
    x = p.operands(node)[0]
    if _layered(node, stored) and x.dtype == p.precision:
        p.bind(node.output, p.op("quantize", [x, *_scaling(p, node, op, stored)], p.dtype(stored), x.shape))
        return
    scale, *zero = (_spread(p, op, v, len(x.shape)) for v in node.inputs[1:] if v is not None)
    y = p.unary("round", p.binary("divide", p.cast(x, "fp32"), scale))
    p.bind(node.output, saturated(p, p.binary("add", y, zero[0]) if zero else y, p.dtype(stored), stored))


def saturated(p: Lowering, x: Var, held: str, dtype: DType) -> Var:
    """Whole floats, limited to the range of an integer type."""
    low, high = integer_range(dtype)
    return p.cast(clipped(p, x, float(low), float(high)), held)


def _known(node: Node) -> bool:
    return all(v is None or v.data is not None for v in node.inputs)


def _readable(node: Node) -> bool:
    x = node.inputs[0]
    return x is not None and (x.data is not None or (x.type.dtype.is_integer and x.type.dtype.bits >= 8))


READABLE = Need(text="integers of at least 8 bits, or constants", holds=_readable)
FIXED = Need(
    text="no blocks of scales, or constants",
    holds=lambda node: not getattr(node.op, "block_size", 0) or _known(node),
)


@TABLE.lowers(ops.DequantizeLinear, FILLED, IN_MEMORY, RANK, READABLE, FIXED)
def _dequantize(p: Lowering, node: Node, op: ops.DequantizeLinear) -> None:
    x = node.inputs[0]
    assert x is not None
    if _known(node):
        data = op.evaluate(*(None if v is None else v.data for v in node.inputs))  # type: ignore[arg-type]  # x, scale are given
        p.bind(node.output, p.floats(np.asarray(data)))
        return
    if _layered(node, x.type.dtype):
        operands = [p[x], *_scaling(p, node, op, x.type.dtype)]
        p.bind(node.output, p.op("dequantize", operands, p.precision, x.type.dims))
        return
    scale, *zero = (_spread(p, op, v, x.type.rank) for v in node.inputs[1:] if v is not None)
    y = p.cast(p[x], "fp32")
    y = p.binary("sub", y, zero[0]) if zero else y
    p.finish(node, p.binary("mul", y, scale))


@lowers(ops.DynamicQuantizeLinear)
def _dynamic(p: Lowering, node: Node, op: ops.DynamicQuantizeLinear) -> None:
    """The scale of 255 steps over the range, 0 included; 1 divides where the range is empty."""
    x = p.cast(p.operands(node)[0], "fp32")
    axes = range(len(x.shape))
    y, scale, zero = node.outputs
    low = p.binary("minimum", p.reshape(p.reduce("reduce_min", x, axes), ()), 0.0)
    high = p.binary("maximum", p.reshape(p.reduce("reduce_max", x, axes), ()), 0.0)
    step = p.binary("divide", p.binary("sub", high, low), 255.0)
    divisor = p.select(p.test("equal", step, 0.0), 1.0, step)
    lowest = p.unary("round", p.binary("divide", p.binary("mul", low, -1.0), divisor))
    point = clipped(p, lowest, 0.0, 255.0)
    codes = p.binary("add", p.unary("round", p.binary("divide", x, divisor)), point)
    p.bind(y, saturated(p, codes, "uint8", y.type.dtype))
    p.bind(scale, p.cast(step, p.precision))
    p.bind(zero, p.cast(point, "uint8"))

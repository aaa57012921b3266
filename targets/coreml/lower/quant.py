"""Quantized values: MIL's quantize and dequantize where they apply (iOS 17, 8 bits, constant scales), else the
arithmetic that they stand for, in fp32; constants are dequantized now."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.numeric import integer_range
from compiler.ops.quant import Quantization
from compiler.target import Need, op_need
from compiler.tensor import DTYPES, DType
from targets.coreml.lower.lowering import BYTES, Lowering, Operands
from targets.coreml.lower.table import FILLED, IN_MEMORY, RANK, TABLE, lowers
from targets.coreml.mil import Var

NAMES = {"i8": "int8", "u8": "uint8"}
WHOLE = op_need("no blocks of scales", lambda op: not op.block_size)
NO_FLOAT8 = op_need("an integer type (Core ML has no 8-bit floats)", lambda op: DTYPES[op.dtype].is_integer)


def _layered(p: Lowering, node: Node, stored: DType) -> bool:
    given = (v for v in node.inputs[1:] if v is not None)
    return p.ios >= 17 and stored.name in NAMES and all(v.data is not None for v in given)


def _scaling(p: Lowering, node: Node, op: Quantization, dtype: str) -> Operands:
    """Operands of quantize and dequantize."""
    scale, zero = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    assert scale is not None and scale.data is not None
    along = scale.data.ndim == 1 and scale.data.size > 1
    shape = scale.data.shape if along else ()
    point = np.zeros(shape) if zero is None else np.asarray(zero.data)
    return {
        "scale": p.floats(np.asarray(scale.data, np.float32).reshape(shape), "scale"),
        "zero_point": p.program.const(point.astype(NAMES[dtype]).reshape(shape), NAMES[dtype], name="zero_point"),
        "axis": op.axis if along else None,
    }


def _spread(p: Lowering, op: Quantization, v: Value, rank: int) -> Var:
    """A scale or zero point as fp32, shaped to broadcast."""
    shape = [] if op.axis is None else [-1 if i == op.axis else 1 for i in range(rank)]
    x = p.cast(p[v], "fp32")
    return p.reshape(x, [x.shape[0] if d < 0 else d for d in shape])


@lowers(ops.QuantizeLinear, needs=[WHOLE, NO_FLOAT8])
def _quantize(p: Lowering, node: Node, op: ops.QuantizeLinear) -> None:
    stored = node.output.type.dtype
    x = p.operands(node)[0]
    if _layered(p, node, stored) and x.dtype == p.precision:
        kind = NAMES[stored.name]
        operands: Operands = {"input": x, "output_dtype": kind, **_scaling(p, node, op, stored.name)}
        p.bind(node.output, p.add("quantize", operands, kind, x.shape, node.output.name))
        return
    scale, *zero = (_spread(p, op, v, len(x.shape)) for v in node.inputs[1:] if v is not None)
    y = p.like(p.binary("real_div", p.cast(x, "fp32"), scale), "round")
    p.bind(node.output, saturated(p, p.binary("add", y, zero[0]) if zero else y, stored, node.output.name))


def saturated(p: Lowering, x: Var, dtype: DType, name: str = "") -> Var:
    """Whole floats, limited to the range of an integer type, as int32."""
    low, high = (float(v) for v in integer_range(dtype))
    limited = p.like(x, "clip", alpha=low, beta=high)
    return p.add("cast", {"x": limited, "dtype": "int32"}, "int32", x.shape, name)


def _known(node: Node) -> bool:
    return all(v is None or v.data is not None for v in node.inputs)


def _readable(node: Node) -> bool:
    x = node.inputs[0]
    return x is not None and (x.data is not None or x.type.dtype.is_integer)


READABLE = Need(text="integers, or constants (Core ML has no 8-bit floats)", holds=_readable)
FIXED = Need(
    text="no blocks of scales, or constants",
    holds=lambda node: (
        not getattr(node.op, "block_size", 0) or all(v is None or v.data is not None for v in node.inputs)
    ),
)


@TABLE.lowers(ops.DequantizeLinear, FILLED, IN_MEMORY, RANK, READABLE, FIXED)
def _dequantize(p: Lowering, node: Node, op: ops.DequantizeLinear) -> None:
    x = node.inputs[0]
    assert x is not None
    if _known(node):
        data = op.evaluate(*(None if v is None else v.data for v in node.inputs))  # type: ignore[arg-type]  # x, scale are given
        p.bind(node.output, p.constant(np.asarray(data), node.output.name, node.output.type.dtype))
        return
    stored = x.type.dtype
    if _layered(p, node, stored):
        raw = p.raw(x)
        codes = raw if raw.dtype in BYTES else p.cast(raw, NAMES[stored.name])
        operands: Operands = {"input": codes, **_scaling(p, node, op, stored.name)}
        p.bind(node.output, p.add("dequantize", operands, p.precision, codes.shape, node.output.name))
        return
    scale, *zero = (_spread(p, op, v, x.type.rank) for v in node.inputs[1:] if v is not None)
    codes = p[x]
    y = p.cast(codes, "fp32")
    if zero:
        y = p.binary("sub", y, zero[0])
    p.bind(node.output, p.cast(p.binary("mul", y, scale), p.precision))


@lowers(ops.DynamicQuantizeLinear)
def _dynamic(p: Lowering, node: Node, op: ops.DynamicQuantizeLinear) -> None:
    """The scale of 255 steps over the range, 0 included; 1 divides where the range is empty."""
    x = p.cast(p.operands(node)[0], "fp32")
    axes = list(range(len(x.shape)))
    y, scale, zero = node.outputs

    def extreme(kind: str, limit: str) -> Var:
        found = p.add(kind, {"x": x, "axes": axes, "keep_dims": False}, "fp32", ()) if axes else x
        return p.like(found, limit, y=0.0)

    low, high = extreme("reduce_min", "minimum"), extreme("reduce_max", "maximum")
    step = p.like(p.binary("sub", high, low), "real_div", y=255.0)
    divisor = p.select(p.test("equal", step, 0.0), 1.0, step)
    point = p.like(
        p.like(p.binary("real_div", p.like(low, "mul", y=-1.0), divisor), "round"), "clip", alpha=0.0, beta=255.0
    )
    codes = p.binary("add", p.like(p.binary("real_div", x, divisor), "round"), point)
    p.bind(y, saturated(p, codes, y.type.dtype, y.name))
    p.bind(scale, p.cast(step, p.precision))
    p.bind(zero, p.cast(point, "int32"))

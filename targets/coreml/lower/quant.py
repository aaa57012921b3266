"""Quantized models: scales on tensors as MIL's quantize and dequantize (iOS 17), constants dequantized now."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.ops.quant import Quantization
from compiler.target import Need
from targets.coreml.lower.table import Lowering, constant_operands, lowers, op_need
from targets.coreml.mil import Operand

EIGHT_BIT = Need(
    text="8-bit integers",
    holds=lambda node: any(
        v is not None and v.type.dtype.name in ("i8", "u8") for v in (node.inputs[0], node.outputs[0])
    ),
    source="MIL quantize and dequantize, coremltools 9.0",
    confidence="documented",
)
WHOLE = op_need("no blocks", lambda op: not op.block_size)


def _scaling(p: Lowering, node: Node, op: Quantization, dtype: str) -> dict[str, Operand | None]:
    scale = np.asarray(node.inputs[1].data, np.float32)  # type: ignore[union-attr]  # a need says that it is constant
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    point = np.zeros(scale.shape) if zero is None else np.asarray(zero.data)
    along = scale.ndim == 1 and scale.size > 1
    shape = scale.shape if along else ()
    kind = "int8" if dtype == "i8" else "uint8"
    return {
        "scale": p.program.const(scale.reshape(shape), p.precision, name="scale"),
        "zero_point": p.program.const(
            point.astype(np.int8 if kind == "int8" else np.uint8).reshape(shape), kind, name="zero_point"
        ),
        "axis": op.axis if along else None,
    }


@lowers(ops.QuantizeLinear, needs=[EIGHT_BIT, WHOLE, constant_operands(1, 2)])
def _quantize(p: Lowering, node: Node, op: ops.QuantizeLinear) -> None:
    dtype = node.output.type.dtype.name
    p.emit(
        node,
        "quantize",
        input=p.operands(node)[0],
        output_dtype="int8" if dtype == "i8" else "uint8",
        **_scaling(p, node, op, dtype),
    )


@lowers(ops.DequantizeLinear, needs=[WHOLE, constant_operands(1, 2)])
def _dequantize(p: Lowering, node: Node, op: ops.DequantizeLinear) -> None:
    """A constant becomes its real values; anything else must be of 8 bits."""
    x = node.inputs[0]
    assert x is not None
    if x.data is not None:
        data = np.asarray(op.evaluate(x.data, *[None if v is None else v.data for v in node.inputs[1:]]))  # type: ignore[arg-type]  # a need says that the scale is given
        p.bind(node.output, p.constant(data, node.output.name, node.output.type.dtype))
        return
    p.emit(node, "dequantize", input=p[x], **_scaling(p, node, op, x.type.dtype.name))

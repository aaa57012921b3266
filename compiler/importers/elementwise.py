"""ONNX element-by-element operators that need more than one layer, or none."""

from __future__ import annotations

from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.importers.shape import operand
from compiler.op import FROM_ONNX, OnnxNode, expect
from compiler.ops.activation import Clip, Silu
from compiler.ops.elementwise import Cast, Max, Min, Mul


@importer("Clip")
def clip(node: OnnxNode, b: LayerBuilder) -> Value:
    """A clip to constant bounds; bounds known at run time only become a maximum and a minimum."""
    x = operand(node)
    if all(not node.has(i) or node.peek(i) is not None for i in (1, 2)):
        op = Clip.from_onnx(node)
        return b.add(op, x) if op.changed() else x
    low, high = (operand(node, i) if node.has(i) else None for i in (1, 2))
    x = b.add(Max(), x, low) if low else x
    return b.add(Min(), x, high) if high else x


@importer("Max", "Mean", "Min", "Sum")
def variadic(node: OnnxNode, b: LayerBuilder) -> Value:
    """The operation of that name; of one operand, the operand itself."""
    operands = [operand(node, i) for i in range(len(node.inputs))]
    return operands[0] if len(operands) == 1 else b.add(FROM_ONNX[node.op_type](), *operands)


@importer("Cast", "CastLike")
def cast(node: OnnxNode, b: LayerBuilder) -> Value:
    """The conversion to `to`, or to the element type of the second operand; none if x has it already."""
    x = operand(node)
    dtype = node.attr("to") if node.op_type == "Cast" else node.type(1).dtype
    if x.type.dtype is dtype:
        return x
    saturate, round_mode = bool(node.attr("saturate", 1)), node.attr("round_mode", "up")
    return b.add(Cast(to=dtype.name, saturate=saturate, round_mode=round_mode), x)


@importer("SwiGLU")
def swiglu(node: OnnxNode, b: LayerBuilder) -> Value:
    """SiLU of the first operand, times the second."""
    gate, value = operand(node), operand(node, 1)
    expect(gate.type == value.type, f"operands differ: {gate.type} and {value.type}")
    return b.add(Mul(), b.add(Silu(alpha=node.attr("alpha", 1.0)), gate), value)

"""Pools in forms that no operation has."""

from __future__ import annotations

from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.importers.shape import operand
from compiler.op import OnnxNode, expect
from compiler.ops.parts import Pad
from compiler.ops.pool import MaxUnpool


@importer("MaxUnpool")
def max_unpool(node: OnnxNode, b: LayerBuilder) -> Value:
    """The indices count in the shape that kernel and strides give; a larger output_shape is filled up with zeros."""
    op = MaxUnpool.from_onnx(node)
    y = b.add(op, operand(node, 0), operand(node, 1))
    shape = node.ints("output_shape", 2, op.shape)
    if shape == op.shape:
        return y
    expect(len(shape) == len(op.shape), f"output_shape {list(shape)} should have {len(op.shape)} numbers")
    missing = tuple(wanted - d for wanted, d in zip(shape, op.shape, strict=True))
    expect(min(missing) >= 0, f"output_shape {list(shape)} is smaller than {list(op.shape)}")
    return b.add(Pad(pads=(*(0,) * len(shape), *missing)), y)

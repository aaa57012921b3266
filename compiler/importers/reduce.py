"""ONNX reductions over no axes, which leave only their element-by-element part."""

from __future__ import annotations

from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.importers.shape import operand
from compiler.op import OnnxNode
from compiler.ops.elementwise import Abs, Log, Mul
from compiler.ops.reduce import (
    Reduce,
    ReduceL1,
    ReduceL2,
    ReduceLogSum,
    ReduceLogSumExp,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    ReduceSumSquare,
)

REDUCTIONS: tuple[type[Reduce], ...] = (
    ReduceL1,
    ReduceL2,
    ReduceLogSum,
    ReduceLogSumExp,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    ReduceSumSquare,
)
BY_ONNX = {cls.onnx: cls for cls in REDUCTIONS}


@importer(*BY_ONNX)
def reduction(node: OnnxNode, b: LayerBuilder) -> Value:
    """The reduction; over no axes (a scalar, or `noop_with_empty_axes`) what it does to each element."""
    x = operand(node)
    axes = node.ints("axes", 1, ())
    if axes or (x.type.rank and not node.attr("noop_with_empty_axes", 0)):
        return b.add(BY_ONNX[node.op_type].from_onnx(node), x)
    if node.op_type in ("ReduceL1", "ReduceL2"):
        return b.add(Abs(), x)
    if node.op_type == "ReduceLogSum":
        return b.add(Log(), x)
    return b.add(Mul(), x, x) if node.op_type == "ReduceSumSquare" else x

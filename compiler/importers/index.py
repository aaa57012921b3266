"""ONNX operators whose result has as many elements as the data says, and older names of scatter."""

from __future__ import annotations

from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.importers.shape import operand
from compiler.op import FROM_ONNX, OnnxNode
from compiler.ops.generate import Range
from compiler.ops.index import ScatterElements
from compiler.tensor import Dim


@importer("Compress", "NonZero", "Unique")
def data_dependent(node: OnnxNode, b: LayerBuilder) -> tuple[Value, ...]:
    """The operation of that name, its unbound dimension being named after the place in the graph, which is unique;
    constants, if all operands are."""
    op = FROM_ONNX[node.op_type].from_onnx(node)
    operands = [v for v in node.operands() if isinstance(v, Value)]
    if all(v.data is not None for v in operands):
        results = op.evaluate(*(v.data for v in operands))
        return tuple(b.const(r) for r in (results if isinstance(results, tuple) else (results,)))
    return b.add_many(op.with_(dim=f"{op.name}_{b.graph.count}"), *operands)


@importer("Range")
def value_range(node: OnnxNode, b: LayerBuilder) -> Value:
    """The range, with as many elements as its constant operands ask for, else with an unbound dimension."""
    operands = [operand(node, i) for i in range(3)]
    known = [v.data for v in operands if v.data is not None]
    dim: Dim = Range.count(*known) if len(known) == 3 else f"range_{b.graph.count}"
    return b.add(Range(dim=dim), *operands)


@importer("Scatter")
def scatter(node: OnnxNode, b: LayerBuilder) -> Value:
    """ScatterElements under the name it had in opset 9."""
    return b.add(ScatterElements.from_onnx(node), operand(node), operand(node, 1), operand(node, 2))

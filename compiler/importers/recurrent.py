"""Recurrent operators with the batch first: transposed to the one order that the operations have."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.importers.shape import operand
from compiler.op import FROM_ONNX, OnnxNode
from compiler.ops.shape import Transpose

BATCH_SECOND = (1, 0, 2)  # [batch, time or direction, ...] <-> [time or direction, batch, ...]


@importer("RNN", "GRU", "LSTM")
def recurrent(node: OnnxNode, b: LayerBuilder) -> Sequence[Value]:
    """The layer itself; with layout=1 (opset 14) between transposes."""
    op = FROM_ONNX[node.op_type].from_onnx(node)
    operands = [operand(node, i) if node.has(i) else None for i in range(len(node.inputs))]
    while operands[-1] is None:
        operands.pop()
    if not node.attr("layout", 0):
        return b.add_many(op, *operands)
    operands = [b.add(Transpose(perm=BATCH_SECOND), v) if v and i in (0, 5, 6) else v for i, v in enumerate(operands)]
    y, *states = b.add_many(op, *operands)
    return b.add(Transpose(perm=(2, 0, 1, 3)), y), *(b.add(Transpose(perm=BATCH_SECOND), s) for s in states)

"""Reductions and extremes."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.reduce import Reduce
from compiler.tensor import BOOL
from targets.coreml.lower.lowering import Lowering, Operands
from targets.coreml.lower.table import FLOAT, FLOATS, INTS, NUMBER, WITH_UNSIGNED, lowers, operand_types
from targets.coreml.mil import Var

WHOLE: dict[type[Op], str] = {  # exact on integers
    ops.ReduceSum: "reduce_sum",
    ops.ReduceProd: "reduce_prod",
    ops.ReduceL1: "reduce_l1_norm",
    ops.ReduceSumSquare: "reduce_sum_square",
}
REAL: dict[type[Op], str] = {
    ops.ReduceMean: "reduce_mean",
    ops.ReduceL2: "reduce_l2_norm",
    ops.ReduceLogSumExp: "reduce_log_sum_exp",
}
EXTREME: dict[type[Op], str] = {ops.ReduceMax: "reduce_max", ops.ReduceMin: "reduce_min"}


def _reduced(p: Lowering, node: Node, x: Var, kind: str) -> Var:
    op = node.op
    assert isinstance(op, Reduce)
    operands: Operands = {"x": x, "axes": list(op.axes), "keep_dims": op.keepdims}
    return p.add(kind, operands, x.dtype, node.output.type.dims, node.output.name)


@lowers(*WHOLE, needs=[NUMBER])
def _whole(p: Lowering, node: Node, op: Reduce) -> None:
    p.finish(node, _reduced(p, node, p.operands(node)[0], WHOLE[type(op)]))


@lowers(*EXTREME, needs=[operand_types(*FLOATS, *INTS, BOOL)])
def _extreme(p: Lowering, node: Node, op: Reduce) -> None:
    (x,) = p.operands(node)
    y = _reduced(p, node, p.cast(x, "int32") if x.dtype == "bool" else x, EXTREME[type(op)])
    p.bind(node.output, p.cast(y, x.dtype))


@lowers(*REAL, needs=[FLOAT])
def _real(p: Lowering, node: Node, op: Reduce) -> None:
    p.bind(node.output, _reduced(p, node, p.operands(node)[0], REAL[type(op)]))


@lowers(ops.ArgMax, ops.ArgMin, needs=[WITH_UNSIGNED])
def _arg_extreme(p: Lowering, node: Node, op: ops.ArgMax) -> None:
    """The last of equals is the first of the reversed ones."""
    (x,) = p.operands(node)
    kind = "reduce_argmax" if isinstance(op, ops.ArgMax) else "reduce_argmin"
    seen = p.like(x, "reverse", axes=[op.axis]) if op.select_last_index else x
    operands: Operands = {"x": seen, "axis": op.axis, "keep_dims": op.keepdims}
    at = p.add(kind, operands, "int32", node.output.type.dims, node.output.name)
    if op.select_last_index:
        at = p.like(p.like(at, "mul", y=-1), "add", y=x.shape[op.axis] - 1)
    p.bind(node.output, at)


@lowers(ops.TopK, needs=[WITH_UNSIGNED])
def _topk(p: Lowering, node: Node, op: ops.TopK) -> None:
    """Sorted results serve where the order is left open."""
    p.emit_all(node, "topk", x=p.operands(node)[0], k=op.k, axis=op.axis, ascending=not op.largest)

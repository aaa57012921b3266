"""Reductions, extremes and running sums."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.reduce import Reduce
from targets.coreml.lower.table import FLOAT, NUMBER, Lowering, lowers, op_need

KINDS: dict[type[Op], str] = {
    ops.ReduceSum: "reduce_sum",
    ops.ReduceMean: "reduce_mean",
    ops.ReduceMax: "reduce_max",
    ops.ReduceMin: "reduce_min",
    ops.ReduceProd: "reduce_prod",
    ops.ReduceL1: "reduce_l1_norm",
    ops.ReduceL2: "reduce_l2_norm",
    ops.ReduceLogSumExp: "reduce_log_sum_exp",
    ops.ReduceSumSquare: "reduce_sum_square",
}


@lowers(*KINDS, needs=[NUMBER])
def _reduce(p: Lowering, node: Node, op: Reduce) -> None:
    p.emit(node, KINDS[type(op)], x=p.operands(node)[0], axes=list(op.axes), keep_dims=op.keepdims)


@lowers(ops.ReduceLogSum, needs=[FLOAT])
def _reduce_log_sum(p: Lowering, node: Node, op: Reduce) -> None:
    (x,) = p.operands(node)
    total = p.add(
        "reduce_sum", {"x": x, "axes": list(op.axes), "keep_dims": op.keepdims}, x.dtype, node.output.type.dims
    )
    p.emit(node, "log", x=total, epsilon=0.0)


FIRST = op_need("select_last_index of 0", lambda op: not op.select_last_index)


@lowers(ops.ArgMax, ops.ArgMin, needs=[FIRST])
def _arg_extreme(p: Lowering, node: Node, op: ops.ArgMax) -> None:
    kind = "reduce_argmax" if isinstance(op, ops.ArgMax) else "reduce_argmin"
    p.emit(node, kind, x=p.operands(node)[0], axis=op.axis, keep_dims=op.keepdims)


@lowers(ops.TopK, needs=[op_need("sorted results", lambda op: op.sorted)])
def _topk(p: Lowering, node: Node, op: ops.TopK) -> None:
    p.emit_all(node, "topk", x=p.operands(node)[0], k=op.k, axis=op.axis, ascending=not op.largest)


@lowers(ops.CumSum, needs=[NUMBER])
def _cumsum(p: Lowering, node: Node, op: ops.CumSum) -> None:
    p.emit(node, "cumsum", x=p.operands(node)[0], axis=op.axis, exclusive=op.exclusive, reverse=op.reverse)

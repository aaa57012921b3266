"""Reductions and extremes."""

from __future__ import annotations

from math import prod

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.reduce import Reduce
from compiler.tensor import BOOL, I32, I64
from targets.coreml.lower.lowering import Lowering, Operands
from targets.coreml.lower.table import FLOATS, INTS, NUMBER, WITH_UNSIGNED, lowers, operand_types
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

WIDE = operand_types(*FLOATS, I32, I64)  # ONNX has these reductions of no narrower integers


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


@lowers(*REAL, needs=[WIDE])
def _real(p: Lowering, node: Node, op: Reduce) -> None:
    """Integers: the mean is their sum divided, the others are computed in fp32; both are cut towards zero."""
    (x,) = p.operands(node)
    if x.dtype != "int32":
        p.bind(node.output, _reduced(p, node, x, REAL[type(op)]))
    elif isinstance(op, ops.ReduceMean):
        total = _reduced(p, node, x, "reduce_sum")
        quotient = p.like(p.like(total, "abs"), "floor_div", y=prod(x.shape[a] for a in op.axes))
        p.bind(node.output, p.binary("mul", quotient, p.like(total, "sign")))
    elif isinstance(op, ops.ReduceL2):
        squares = p.cast(_reduced(p, node, x, "reduce_sum_square"), "fp32")
        p.finish(node, p.cast(p.like(squares, "sqrt"), "int32"))
    else:
        p.finish(node, p.cast(_reduced(p, node, p.cast(x, "fp32"), REAL[type(op)]), "int32"))


@lowers(ops.ReduceLogSum, needs=[WIDE])
def _log_sum(p: Lowering, node: Node, op: Reduce) -> None:
    (x,) = p.operands(node)
    total = _reduced(p, node, x, "reduce_sum")
    if x.dtype == "int32":
        p.finish(node, p.cast(p.like(p.cast(total, "fp32"), "log", epsilon=0.0), "int32"))
    else:
        p.emit(node, "log", x=total, epsilon=0.0)


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

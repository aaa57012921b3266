"""Reductions, extremes and their places, sorting, running sums."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.reduce import Reduce
from targets.coreai.dtypes import limits
from targets.coreai.lower.lowering import FLOATS as HELD_FLOATS
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.table import FLOAT, NUMBER, lowers
from targets.coreai.program import Var

KINDS: dict[type[Op], str] = {
    ops.ReduceSum: "reduce_sum",
    ops.ReduceProd: "reduce_product",
    ops.ReduceMax: "reduce_max",
    ops.ReduceMin: "reduce_min",
}


@lowers(ops.ReduceSum, ops.ReduceProd, needs=[NUMBER])
@lowers(ops.ReduceMax, ops.ReduceMin)
def _reduce(p: Lowering, node: Node, op: Reduce) -> None:
    (x,) = p.operands(node)
    y = p.reduce(KINDS[type(op)], p.cast(x, "uint8") if x.dtype == "bool" else x, op.axes)
    p.bind(node.output, p.cast(p.reshape(y, node.output.type.dims), x.dtype))


@lowers(ops.ReduceMean, needs=[FLOAT])
def _mean(p: Lowering, node: Node, op: Reduce) -> None:
    y = p.reduce("reduce_mean", p.operands(node)[0], op.axes)
    p.bind(node.output, p.reshape(y, node.output.type.dims))


@lowers(ops.ReduceL1, ops.ReduceSumSquare, needs=[NUMBER])
@lowers(ops.ReduceL2, needs=[FLOAT])
def _norm(p: Lowering, node: Node, op: Reduce) -> None:
    (x,) = p.operands(node)
    size = p.unary("abs", x) if isinstance(op, ops.ReduceL1) else p.binary("mul", x, x)
    y = p.reduce("reduce_sum", size, op.axes)
    y = p.unary("sqrt", y) if isinstance(op, ops.ReduceL2) else y
    p.bind(node.output, p.reshape(y, node.output.type.dims))


@lowers(ops.ReduceLogSumExp, needs=[FLOAT])
def _log_sum_exp(p: Lowering, node: Node, op: Reduce) -> None:
    (x,) = p.operands(node)
    top = p.reduce("reduce_max", x, op.axes)
    total = p.reduce("reduce_sum", p.unary("exp", p.binary("sub", x, top)), op.axes)
    p.bind(node.output, p.reshape(p.binary("add", p.unary("log", total), top), node.output.type.dims))


@lowers(ops.ArgMax, ops.ArgMin, needs=[NUMBER])
def _arg_extreme(p: Lowering, node: Node, op: ops.ArgMax) -> None:
    """The least is the greatest of the negated; the last of equals is the first of the reversed ones."""
    (x,) = p.operands(node)
    if isinstance(op, ops.ArgMin):
        x = _negated(p, x)
    seen = p.reverse(x, [op.axis]) if op.select_last_index else x
    shape = [1 if i == op.axis else d for i, d in enumerate(x.shape)]
    at = p.cast(p.op("argmax", [seen, p.axis(op.axis)], "uint32", shape), "int32")
    if op.select_last_index:
        at = p.binary("sub", x.shape[op.axis] - 1, at)
    p.bind(node.output, p.reshape(at, node.output.type.dims))


def _negated(p: Lowering, x: Var) -> Var:
    """What orders the other way round: for integers the complement, which exists for all of them."""
    if x.dtype in HELD_FLOATS:
        return p.binary("mul", x, -1.0)
    least, most = limits(x.dtype)
    return p.binary("bitwise_xor", x, -1 if least < 0 else most)


@lowers(ops.TopK, needs=[NUMBER])
def _topk(p: Lowering, node: Node, op: ops.TopK) -> None:
    """The first of all places in order; sorted results serve where the order is left open."""
    (x,) = p.operands(node)
    order = [p.axis(op.axis), p.flag(op.largest), p.flag(True)]
    places = p.cut(p.op("argsort", [x, *order], "int32", x.shape), op.axis, 0, op.k)
    values, at = node.outputs
    p.bind(values, p.op("gather_along_axis", [x, places, p.axis(op.axis)], x.dtype, places.shape))
    p.bind(at, places)


@lowers(ops.CumSum, needs=[NUMBER])
def _cumsum(p: Lowering, node: Node, op: ops.CumSum) -> None:
    (x,) = p.operands(node)
    order = [p.size(op.axis), p.flag(op.reverse)]
    y = p.op("scan", [x, *order], x.dtype, x.shape, "scan_op = 0 : i32")
    p.bind(node.output, p.binary("sub", y, x) if op.exclusive and x.dtype not in HELD_FLOATS else _moved(p, y, op))


def _moved(p: Lowering, y: Var, op: ops.CumSum) -> Var:
    """Sums of what is before each element alone: the sums one place on, with 0 at the start."""
    if not op.exclusive:
        return y
    n, at = y.shape[op.axis], op.axis
    if n == 1:
        return p.spread(p.number(0, y.dtype), y.shape)
    widths = [int(i == at) for i in range(len(y.shape))]
    none = [0] * len(widths)
    if op.reverse:
        return p.pad(p.cut(y, at, 1, n), none, widths)
    return p.pad(p.cut(y, at, 0, n - 1), widths, none)

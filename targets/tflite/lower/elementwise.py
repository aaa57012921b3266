"""Arithmetic, comparison, logic, choice and conversion, element by element."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.layout import Order
from compiler.target import op_need
from compiler.tensor import BOOL, DTYPES, F16, U64, DType
from targets.tflite.lower.integer import converted, magnitude, ordered, together, unsigned_to_float
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import BOOLEAN, FLOAT, FLOATS, INTEGER, RING, lowers, operand_types
from targets.tflite.model import Tensor


@lowers(ops.Identity)
def _identity(p: Lowering, node: Node, op: Op) -> None:
    (x,) = node.inputs
    assert x is not None
    order = p.result_order(node)
    p.bind(node.output, p.get(x, order), order)


def one(p: Lowering, node: Node) -> tuple[Tensor, Order]:
    """The first operand of a layer in the order of its result, which has the same axes."""
    x, order = node.inputs[0], p.result_order(node)
    assert x is not None
    return p.get(x, order), order


ARITHMETIC: dict[type[Op], str] = {ops.Add: "ADD", ops.Mul: "MUL", ops.Sub: "SUB"}
COMPARISON: dict[type[Op], str] = {
    ops.Less: "LESS",
    ops.Greater: "GREATER",
    ops.LessOrEqual: "LESS_EQUAL",
    ops.GreaterOrEqual: "GREATER_EQUAL",
    ops.Equal: "EQUAL",
}
LOGIC: dict[type[Op], str] = {ops.And: "LOGICAL_AND", ops.Or: "LOGICAL_OR", ops.Xor: "NOT_EQUAL"}
EXTREMES: dict[type[Op], str] = {ops.Max: "MAXIMUM", ops.Min: "MINIMUM"}


@lowers(*ARITHMETIC, needs=[RING])
@lowers(*LOGIC, needs=[BOOLEAN])
def _binary(p: Lowering, node: Node, op: Op) -> None:
    (x, y), order = together(p, node)
    p.finish(node, p.binary(ARITHMETIC.get(type(op)) or LOGIC[type(op)], x, y), order)


@lowers(*COMPARISON, needs=[operand_types(*FLOATS, *INTEGER, BOOL)])
def _compare(p: Lowering, node: Node, op: Op) -> None:
    operands, order = together(p, node)
    (v, _) = node.inputs
    assert v is not None
    x, y = (t if isinstance(op, ops.Equal) else ordered(p, _comparable(p, t), v.type.dtype) for t in operands)
    p.finish(node, p.binary(COMPARISON[type(op)], x, y), order)


def _comparable(p: Lowering, x: Tensor) -> Tensor:
    """`x` as numbers that have an order."""
    return p.numeric(x)


@lowers(*EXTREMES, needs=[RING])
def _extreme(p: Lowering, node: Node, op: Op) -> None:
    operands, order = together(p, node)
    dtype = node.output.type.dtype
    y, *others = (ordered(p, t, dtype) for t in operands)
    for t in others:
        y = p.binary(EXTREMES[type(op)], y, t)
    p.finish(node, ordered(p, y, dtype), order)


@lowers(ops.Sum, needs=[RING])
@lowers(ops.Mean, needs=[FLOAT])
def _sum(p: Lowering, node: Node, op: Op) -> None:
    (y, *others), order = together(p, node)
    for t in others:
        y = p.binary("ADD", y, t)
    p.finish(node, p.times(y, 1 / (1 + len(others))) if isinstance(op, ops.Mean) else y, order)


@lowers(ops.Not, needs=[BOOLEAN])
def _not(p: Lowering, node: Node, op: Op) -> None:
    x, order = one(p, node)
    p.finish(node, p.unary("LOGICAL_NOT", x), order)


@lowers(ops.IsNaN)
def _is_nan(p: Lowering, node: Node, op: Op) -> None:
    x, order = one(p, node)
    p.finish(node, p.binary("NOT_EQUAL", x, x), order)


@lowers(ops.Where)
def _where(p: Lowering, node: Node, op: Op) -> None:
    (condition, x, y), order = together(p, node)
    p.finish(node, p.select(condition, x, y), order)


@lowers(ops.Cast, needs=[op_need("no target type of fewer than 8 bits", lambda op: DTYPES[op.to].bits >= 8)])
def _cast(p: Lowering, node: Node, op: ops.Cast) -> None:
    """To f16 means rounding, to narrow integers wrapping, to booleans a comparison with 0."""
    (v,) = node.inputs
    assert v is not None
    x, order = one(p, node)
    to, source = DTYPES[op.to], v.type.dtype
    if to is BOOL:
        nonzero = x if x.dtype == "BOOL" else p.binary("NOT_EQUAL", x, p.scalar(0, x.dtype))
        p.bind(node.output, nonzero, order)
    elif to.is_float:
        narrows = to is F16 and source is not F16
        wide = unsigned_to_float(p, x) if source is U64 else p.cast(x, "FLOAT32")
        p.bind(node.output, p.cast(p.cast(wide, "FLOAT16") if narrows else wide, "FLOAT32"), order)
    else:
        p.bind(node.output, converted(p, v, x, to), order)


UNARY: dict[type[Op], str] = {
    ops.Ceil: "CEIL",
    ops.Cos: "COS",
    ops.Exp: "EXP",
    ops.Floor: "FLOOR",
    ops.Log: "LOG",
    ops.Round: "ROUND",
    ops.Sigmoid: "LOGISTIC",
    ops.Sin: "SIN",
    ops.Sqrt: "SQRT",
    ops.Tanh: "TANH",
}


@lowers(*UNARY, needs=[FLOAT])
def _unary(p: Lowering, node: Node, op: Op) -> None:
    x, order = one(p, node)
    p.finish(node, p.unary(UNARY[type(op)], x), order)


@lowers(ops.Abs, ops.Neg, ops.Sign, needs=[RING])
def _signed(p: Lowering, node: Node, op: Op) -> None:
    x, order = one(p, node)
    if isinstance(op, ops.Abs):
        y = x if node.output.type.dtype.kind == "u" else magnitude(p, x)
    elif isinstance(op, ops.Neg):
        y = p.unary("NEG", x) if x.dtype == "FLOAT32" else p.binary("SUB", p.scalar(0, x.dtype), x)
    else:
        y = p.unary("SIGN", x) if x.dtype == "FLOAT32" else _sign(p, x, node.output.type.dtype)
    p.finish(node, y, order)


@lowers(ops.Reciprocal, needs=[FLOAT])
def _reciprocal(p: Lowering, node: Node, op: Op) -> None:
    x, order = one(p, node)
    p.finish(node, p.binary("DIV", p.scalar(1.0), x), order)


def _sign(p: Lowering, x: Tensor, dtype: DType) -> Tensor:
    """max(min(x, 1), -1), for integers; whether it is not 0, for those without sign."""
    if dtype.kind == "u":
        return p.cast(p.binary("NOT_EQUAL", x, p.scalar(0, x.dtype)), x.dtype)
    return p.binary("MAXIMUM", p.binary("MINIMUM", x, p.scalar(1, x.dtype)), p.scalar(-1, x.dtype))

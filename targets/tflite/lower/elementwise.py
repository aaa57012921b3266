"""Arithmetic, comparison, logic, choice and conversion, element by element."""

from __future__ import annotations

from math import inf

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.layout import Order
from compiler.tensor import BOOL, DTYPES, F16, I32, I64, U8, U16
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import (
    BOOLEAN,
    DIVISIBLE,
    FLOAT,
    FLOATS,
    INTS,
    NUMBER,
    lowers,
    op_need,
    operand_types,
    result_types,
)
from targets.tflite.model import Tensor


@lowers(ops.Identity)
def _identity(p: Lowering, node: Node, op: Op) -> None:
    (x,) = node.inputs
    assert x is not None
    order = p.result_order(node)
    p.bind(node.output, p.get(x, order), order)


def together(p: Lowering, node: Node) -> tuple[list[Tensor], Order]:
    """The operands of an elementwise layer in the order of its result, ready to be broadcast."""
    order = p.result_order(node)
    return [p.aligned(v, order) for v in node.inputs if v is not None], order


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
FOLDED: dict[type[Op], str] = {ops.Max: "MAXIMUM", ops.Min: "MINIMUM", ops.Sum: "ADD", ops.Mean: "ADD"}


@lowers(*ARITHMETIC, needs=[NUMBER])
@lowers(*COMPARISON, needs=[operand_types(*FLOATS, *INTS, BOOL)])
@lowers(*LOGIC, needs=[BOOLEAN])
def _binary(p: Lowering, node: Node, op: Op) -> None:
    (x, y), order = together(p, node)
    code = ARITHMETIC.get(type(op)) or COMPARISON.get(type(op)) or LOGIC[type(op)]
    p.finish(node, p.binary(code, x, y), order)


@lowers(*FOLDED, needs=[NUMBER])
def _folded(p: Lowering, node: Node, op: Op) -> None:
    (y, *others), order = together(p, node)
    for t in others:
        y = p.binary(FOLDED[type(op)], y, t)
    p.finish(node, p.times(y, 1 / (1 + len(others))) if isinstance(op, ops.Mean) else y, order)


@lowers(ops.Not, needs=[BOOLEAN])
def _not(p: Lowering, node: Node, op: Op) -> None:
    x, order = one(p, node)
    p.finish(node, p.unary("LOGICAL_NOT", x), order)


@lowers(ops.IsNaN)
def _is_nan(p: Lowering, node: Node, op: Op) -> None:
    x, order = one(p, node)
    p.finish(node, p.binary("NOT_EQUAL", x, x), order)


@lowers(ops.IsInf)
def _is_inf(p: Lowering, node: Node, op: ops.IsInf) -> None:
    x, order = one(p, node)
    if op.detect_negative and op.detect_positive:
        y = p.binary("EQUAL", p.unary("ABS", x), p.scalar(inf))
    elif op.detect_negative or op.detect_positive:
        y = p.binary("EQUAL", x, p.scalar(inf if op.detect_positive else -inf))
    else:
        y = p.binary("LESS", p.unary("ABS", x), p.scalar(0.0))
    p.finish(node, y, order)


def truncated_quotient(p: Lowering, x: Tensor, y: Tensor) -> Tensor:
    """x / y cut towards zero: the quotient of the sizes, with the sign put back. A divisor of 0 gives 0."""
    zero = p.scalar(0, x.dtype)
    none = p.binary("EQUAL", y, zero)
    divisor = p.select(none, p.scalar(1, y.dtype), y)
    size = p.binary("FLOOR_DIV", magnitude(p, x), magnitude(p, divisor))
    differ = p.binary("NOT_EQUAL", p.binary("LESS", x, zero), p.binary("LESS", y, zero))
    signed = p.select(differ, p.binary("SUB", zero, size), size)
    return p.select(none, zero, signed)


def magnitude(p: Lowering, x: Tensor) -> Tensor:
    """|x|; of integers as the larger of x and -x."""
    if x.dtype == "FLOAT32":
        return p.unary("ABS", x)
    return p.binary("MAXIMUM", x, p.binary("SUB", p.scalar(0, x.dtype), x))


@lowers(ops.Div, needs=[DIVISIBLE])
def _div(p: Lowering, node: Node, op: Op) -> None:
    (x, y), order = together(p, node)
    floats = x.dtype == "FLOAT32"
    p.finish(node, p.binary("DIV", x, y) if floats else truncated_quotient(p, x, y), order)


@lowers(ops.Mod, needs=[NUMBER])
def _mod(p: Lowering, node: Node, op: ops.Mod) -> None:
    (x, y), order = together(p, node)
    if not op.fmod:
        p.finish(node, p.binary("FLOOR_MOD", x, y), order)
        return
    rest = p.binary("FLOOR_MOD", magnitude(p, x), magnitude(p, y))
    negative = p.binary("LESS", x, p.scalar(0, x.dtype))
    p.finish(node, p.select(negative, p.binary("SUB", p.scalar(0, x.dtype), rest), rest), order)


@lowers(ops.Pow, needs=[operand_types(*FLOATS, I32, I64), result_types(*FLOATS, I32)])
def _pow(p: Lowering, node: Node, op: Op) -> None:
    """Small constant powers are products; others are raised in float32."""
    (x, y), order = together(p, node)
    base, power = node.inputs
    assert base is not None and power is not None
    number = power.data.item() if power.data is not None and power.data.size == 1 else None
    same = node.output.type.shape == base.type.shape
    if same and number in (1, 2, 3):
        p.finish(node, powered(p, x, int(number)), order)
    elif same and number == 0.5 and x.dtype == "FLOAT32":
        p.finish(node, p.unary("SQRT", x), order)
    else:
        raised = p.binary("POW", p.cast(x, "FLOAT32"), p.cast(y, "FLOAT32"))
        p.finish(node, p.cast(p.unary("ROUND", raised) if x.dtype != "FLOAT32" else raised, x.dtype), order)


def powered(p: Lowering, x: Tensor, power: int) -> Tensor:
    """x to the power 1, 2 or 3."""
    square = p.binary("MUL", x, x) if power > 1 else x
    return p.binary("MUL", square, x) if power > 2 else square


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
        p.bind(node.output, p.cast(p.cast(x, "FLOAT16") if narrows else x, "FLOAT32"), order)
    else:
        whole = p.cast(x, p.dtype(to))
        fits = source is BOOL or (source.is_integer and source.kind == "u" and source.bits < to.bits)
        p.bind(node.output, whole if fits else p.wrapped(whole, to), order)


@lowers(ops.BitwiseNot, needs=[NUMBER])
def _bitwise_not(p: Lowering, node: Node, op: Op) -> None:
    """-1 - x, in the ring of the element type."""
    x, order = one(p, node)
    p.finish(node, p.binary("SUB", p.scalar(-1, x.dtype), x), order)


@lowers(ops.BitShift, needs=[operand_types(U8, U16)])
def _bit_shift(p: Lowering, node: Node, op: ops.BitShift) -> None:
    """A product with (LEFT), or a rounded-down quotient by (RIGHT), a power of two read from a table."""
    (x, y), order = together(p, node)
    bits = node.output.type.dtype.bits
    left = op.direction == "LEFT"
    powers = p.ints([*(1 << i for i in range(bits)), 0 if left else 1 << bits])
    factor = p.take(powers, p.binary("MINIMUM", y, p.scalar(bits, y.dtype)), 0)
    p.finish(node, p.binary("MUL" if left else "FLOOR_DIV", x, factor), order)


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


@lowers(ops.Abs, ops.Neg, ops.Sign, needs=[NUMBER])
def _signed(p: Lowering, node: Node, op: Op) -> None:
    x, order = one(p, node)
    if isinstance(op, ops.Abs):
        y = magnitude(p, x)
    elif isinstance(op, ops.Neg):
        y = p.unary("NEG", x) if x.dtype == "FLOAT32" else p.binary("SUB", p.scalar(0, x.dtype), x)
    else:
        y = p.unary("SIGN", x) if x.dtype == "FLOAT32" else _sign(p, x)
    p.finish(node, y, order)


@lowers(ops.Reciprocal, needs=[FLOAT])
def _reciprocal(p: Lowering, node: Node, op: Op) -> None:
    x, order = one(p, node)
    p.finish(node, p.binary("DIV", p.scalar(1.0), x), order)


def _sign(p: Lowering, x: Tensor) -> Tensor:
    """max(min(x, 1), -1), for integers."""
    return p.binary("MAXIMUM", p.binary("MINIMUM", x, p.scalar(1, x.dtype)), p.scalar(-1, x.dtype))

"""Arithmetic, comparison, logic, choice and conversion, element by element."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.numeric import integer_range
from compiler.target import Need
from compiler.tensor import BOOL, DTYPES, DType
from targets.coreai.dtypes import limits
from targets.coreai.lower.lowering import FLOATS as HELD_FLOATS
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.table import BOOLEAN, NUMBER, lowers
from targets.coreai.program import Var


@lowers(ops.Identity, ops.ConvertLayout)
def _identity(p: Lowering, node: Node, op: Op) -> None:
    """Nothing moves: programs know logical shapes alone."""
    p.bind(node.output, p.operands(node)[0])


@lowers(ops.Not, needs=[BOOLEAN])
def _not(p: Lowering, node: Node, op: Op) -> None:
    p.bind(node.output, p.unary("not", p.operands(node)[0]))


@lowers(ops.IsNaN, needs=[])
def _is_nan(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    p.bind(node.output, p.test("not_equal", x, x))


ARITHMETIC: dict[type[Op], str] = {ops.Add: "add", ops.Mul: "mul", ops.Sub: "sub", ops.Div: "divide"}
COMPARISON: dict[type[Op], str] = {
    ops.Less: "less",
    ops.Greater: "greater",
    ops.LessOrEqual: "less_equal",
    ops.GreaterOrEqual: "greater_equal",
}
LOGIC: dict[type[Op], str] = {ops.And: "and", ops.Or: "or", ops.Xor: "xor"}
BITS: dict[type[Op], str] = {
    ops.BitwiseAnd: "bitwise_and",
    ops.BitwiseOr: "bitwise_or",
    ops.BitwiseXor: "bitwise_xor",
}
VARIADIC: dict[type[Op], str] = {ops.Max: "maximum", ops.Min: "minimum"}
PAIR = Need(text="two operands", holds=lambda node: len(node.inputs) == 2)
BINARY = {**ARITHMETIC, **LOGIC, **BITS, **VARIADIC}


@lowers(*ARITHMETIC, needs=[NUMBER])
@lowers(*LOGIC, needs=[BOOLEAN])
@lowers(*BITS)
@lowers(*VARIADIC, needs=[NUMBER, PAIR])
def _binary(p: Lowering, node: Node, op: Op) -> None:
    """The quotient of integers is cut towards zero; sums and products of integers wrap around."""
    x, y = p.operands(node)
    p.bind(node.output, p.binary(BINARY[type(op)], x, y))


def number(p: Lowering, x: Var) -> Var:
    """Booleans as numbers, for operations that have none of them."""
    return p.cast(x, "uint8") if x.dtype == "bool" else x


@lowers(*COMPARISON)
def _compare(p: Lowering, node: Node, op: Op) -> None:
    x, y = (number(p, v) for v in p.operands(node))
    p.bind(node.output, p.test(COMPARISON[type(op)], x, y))


@lowers(ops.Equal)
def _equal(p: Lowering, node: Node, op: Op) -> None:
    x, y = p.operands(node)
    p.bind(node.output, p.test("equal", x, y))


@lowers(ops.Pow, needs=[NUMBER])
def _pow(p: Lowering, node: Node, op: Op) -> None:
    """In the type of the base; integers with an exponent that is none are raised as floats, and cut."""
    x, y = p.operands(node)
    if x.dtype in HELD_FLOATS or y.dtype not in HELD_FLOATS:
        p.bind(node.output, p.binary("pow", x, p.cast(y, x.dtype)))
    else:
        p.finish(node, p.binary("pow", p.cast(x, "fp32"), p.cast(y, "fp32")))


@lowers(ops.Mod, needs=[NUMBER])
def _mod(p: Lowering, node: Node, op: ops.Mod) -> None:
    """The dialect's remainder has the sign of the dividend, as C's; with the divisor's sign it is moved by one."""
    x, y = p.operands(node)
    rest = p.binary("modulo", x, y)
    if op.fmod or x.dtype.startswith("uint"):
        p.bind(node.output, rest)
        return
    differs = p.test("not_equal", p.test("less", rest, 0), p.test("less", y, 0))
    moved = p.binary("and", differs, p.test("not_equal", rest, 0))
    p.bind(node.output, p.select(moved, p.binary("add", rest, y), rest))


@lowers(ops.Where)
def _where(p: Lowering, node: Node, op: Op) -> None:
    condition, x, y = p.operands(node)
    p.bind(node.output, p.select(condition, x, y))


def _convertible(node: Node) -> bool:
    source, target = (v.type.dtype for v in (node.inputs[0], node.output) if v is not None)
    return not (target.kind == "u" and target.bits >= 32 and source.kind == "f")


UNSIGNED = Need(
    text="a target type other than u32 and u64, into which negative numbers wrap around (i64 holds the rest)",
    holds=_convertible,
)


@lowers(ops.Cast, needs=[UNSIGNED])
def _cast(p: Lowering, node: Node, op: ops.Cast) -> None:
    """To fp16 inside an fp32 program means rounding; to narrow integers, wrapping."""
    (x,), given = p.operands(node), node.inputs[0]
    assert given is not None
    to, source = DTYPES[op.to], given.type.dtype
    if to.is_float and source.is_float:
        narrows = op.to == "f16" and p.precision == "fp32" and source is not to
        p.bind(node.output, p.cast(p.cast(x, "fp16") if narrows else x, p.precision))
    elif to.is_integer and source is not BOOL:
        p.bind(node.output, wrapped(p, x, to, p.dtype(to)))
    else:
        p.finish(node, x)


def wrapped(p: Lowering, x: Var, to: DType, held: str) -> Var:
    """Numbers modulo the range of an integer type. The dialect leaves open what becomes of those beyond it, and the
    runtime limits them."""
    whole = p.cast(x, "int32") if x.dtype in HELD_FLOATS else x
    if whole.dtype in (held, "bool"):
        return p.cast(whole, held)
    low, high = integer_range(to)
    from_low, from_high = limits(whole.dtype)
    if low <= from_low and from_high <= high:
        return p.cast(whole, held)
    if to.bits >= 32:  # between int32 and uint32, through 64 bits
        wide = p.binary("bitwise_and", p.cast(whole, "int64"), 0xFFFFFFFF)
        if to.kind == "i":
            wide = p.select(p.test("greater", wide, 0x7FFFFFFF), p.binary("sub", wide, 1 << 32), wide)
        return p.cast(wide, held)
    rest = p.binary(
        "bitwise_and", p.cast(whole, "int32") if whole.dtype.startswith("int") else whole, (1 << to.bits) - 1
    )
    if to.kind == "i":
        rest = p.cast(rest, "int32")
        rest = p.select(p.test("greater", rest, high), p.binary("sub", rest, 1 << to.bits), rest)
    return p.cast(rest, held)


@lowers(ops.Abs, needs=[NUMBER])
def _abs(p: Lowering, node: Node, op: Op) -> None:
    p.bind(node.output, p.unary("abs", p.operands(node)[0]))


@lowers(ops.Sign, needs=[NUMBER])
def _sign(p: Lowering, node: Node, op: Op) -> None:
    """1, -1, or what is neither: zeros and NaN."""
    (x,) = p.operands(node)
    y = p.select(p.test("greater", x, 0), 1, x)
    p.bind(node.output, y if x.dtype.startswith("uint") else p.select(p.test("less", x, 0), -1, y))


@lowers(ops.Neg, needs=[NUMBER])
def _neg(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    p.bind(node.output, p.binary("mul", x, -1))

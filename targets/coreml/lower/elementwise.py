"""Arithmetic, comparison, logic, choice and conversion, element by element."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.target import Need, op_need
from compiler.tensor import BOOL, DTYPES, U32, U64
from targets.coreml.lower.lowering import Lowering
from targets.coreml.lower.table import BOOLEAN, FLOATS, INTS, NUMBER, WITH_UNSIGNED, lowers, operand_types


@lowers(ops.Identity, ops.ConvertLayout, any_rank=True)
def _identity(p: Lowering, node: Node, op: Op) -> None:
    """Nothing moves: programs know logical shapes alone, and Core ML chooses how tensors lie in memory."""
    (x,) = node.inputs
    assert x is not None
    p.bind(node.output, p.raw(x))


@lowers(ops.Not, needs=[BOOLEAN])
def _not(p: Lowering, node: Node, op: Op) -> None:
    p.emit(node, "logical_not", x=p.operands(node)[0])


@lowers(ops.IsNaN)
def _is_nan(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    p.emit(node, "not_equal", x=x, y=x)


ARITHMETIC: dict[type[Op], str] = {ops.Add: "add", ops.Mul: "mul", ops.Sub: "sub"}
COMPARISON: dict[type[Op], str] = {
    ops.Less: "less",
    ops.Greater: "greater",
    ops.LessOrEqual: "less_equal",
    ops.GreaterOrEqual: "greater_equal",
}
LOGIC: dict[type[Op], str] = {ops.And: "logical_and", ops.Or: "logical_or", ops.Xor: "logical_xor"}


@lowers(ops.Add, ops.Mul, needs=[WITH_UNSIGNED])
@lowers(ops.Sub, needs=[NUMBER])
def _arithmetic(p: Lowering, node: Node, op: Op) -> None:
    x, y = p.operands(node)
    v = node.output
    p.finish(node, p.add(ARITHMETIC[type(op)], {"x": x, "y": y}, x.dtype, v.type.dims, v.name))


@lowers(*COMPARISON, needs=[operand_types(*FLOATS, *INTS, U32, U64, BOOL)])
def _compare(p: Lowering, node: Node, op: Op) -> None:
    x, y = p.operands(node)
    p.emit(node, COMPARISON[type(op)], x=x, y=y)


@lowers(*LOGIC, needs=[BOOLEAN])
def _logic(p: Lowering, node: Node, op: Op) -> None:
    x, y = p.operands(node)
    p.emit(node, LOGIC[type(op)], x=x, y=y)


@lowers(ops.Equal)
def _equal(p: Lowering, node: Node, op: Op) -> None:
    x, y = (p.cast(v, "int32") if v.dtype == "bool" else v for v in p.operands(node))
    p.emit(node, "equal", x=x, y=y)


@lowers(ops.Div, needs=[WITH_UNSIGNED])
def _div(p: Lowering, node: Node, op: Op) -> None:
    """The quotient of integers is cut towards zero: that of the sizes, with the sign put back."""
    x, y = p.operands(node)
    if x.dtype != "int32":
        p.emit(node, "real_div", x=x, y=y)
    elif node.output.type.dtype.kind == "u":
        p.emit(node, "floor_div", x=x, y=y)
    else:
        quotient = p.binary("floor_div", p.like(x, "abs"), p.like(y, "abs"))
        p.finish(node, p.binary("mul", quotient, p.binary("mul", p.like(x, "sign"), p.like(y, "sign"))))


@lowers(ops.Pow, needs=[WITH_UNSIGNED])
def _pow(p: Lowering, node: Node, op: Op) -> None:
    """Integers stay integers where the exponent is a small constant; else they are raised as fp32, and cut."""
    x, y = p.operands(node)
    power = node.inputs[1]
    assert power is not None
    if x.dtype == "int32" and power.data is not None and power.data.size == 1 and power.data.item() in (1, 2, 3):
        times = [x] * int(power.data.item())
        product = times[0]
        for factor in times[1:]:
            product = p.binary("mul", product, factor)
        p.finish(node, p.spread(product, node.output.type.dims))
        return
    kind = p.precision if x.dtype == p.precision else "fp32"
    y = p.binary("pow", p.cast(x, kind), p.cast(y, kind))
    if x.dtype == "int32":
        exact = p.like(y, "round")
        near = p.test("less", p.like(p.like(y, "sub", y=exact), "abs"), 1e-3)
        y = p.select(near, exact, y)
    p.finish(node, p.cast(y, x.dtype))


@lowers(ops.Mod, needs=[WITH_UNSIGNED, op_need("the sign of the divisor", lambda op: not op.fmod)])
def _mod(p: Lowering, node: Node, op: ops.Mod) -> None:
    x, y = p.operands(node)
    p.finish(node, p.binary("mod", x, y))


VARIADIC: dict[type[Op], str] = {ops.Max: "maximum", ops.Min: "minimum"}
PAIR = Need(text="two operands", holds=lambda node: len(node.inputs) == 2)


@lowers(*VARIADIC, needs=[WITH_UNSIGNED, PAIR])
def _extreme(p: Lowering, node: Node, op: Op) -> None:
    x, y = p.operands(node)
    p.bind(node.output, p.binary(VARIADIC[type(op)], x, y))


@lowers(ops.Where)
def _where(p: Lowering, node: Node, op: Op) -> None:
    condition, x, y = p.operands(node)
    p.bind(node.output, p.select(condition, x, y, name=node.output.name))


def _convertible(node: Node) -> bool:
    source, target = (v.type.dtype for v in (node.inputs[0], node.output) if v is not None)
    return not (target.kind == "u" and target.bits >= 32 and source.kind in "fi")


UNSIGNED = Need(
    text="a target type other than u32 and u64, into which negative numbers wrap around (i64 holds the rest)",
    holds=_convertible,
)


@lowers(ops.Cast, needs=[UNSIGNED])
def _cast(p: Lowering, node: Node, op: ops.Cast) -> None:
    """To fp16 inside an fp32 program means rounding; to narrow integers, wrapping; to booleans, a comparison with 0,
    which leaves no doubt about fractions."""
    (x,) = p.operands(node)
    to = DTYPES[op.to]
    if to is BOOL:
        nonzero = x if x.dtype == "bool" else p.test("not_equal", x, 0 if x.dtype == "int32" else 0.0)
        p.bind(node.output, nonzero)
    elif to.is_float:
        given = node.inputs[0]
        assert given is not None
        narrows = op.to == "f16" and p.precision == "fp32" and given.type.dtype is not to
        p.bind(node.output, p.cast(p.cast(x, "fp16") if narrows else x, p.precision))
    else:
        source = node.inputs[0]
        assert source is not None
        fits = source.type.dtype.is_integer and source.type.dtype.bits < to.bits and source.type.dtype.kind == "u"
        whole = p.cast(x, "int32")
        p.bind(node.output, whole if fits or x.dtype == "bool" else p.wrapped(whole, to))

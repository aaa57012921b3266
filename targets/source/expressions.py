"""What element-by-element operations compute, as expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

from codegen.expression import Apply, Expression, Number
from codegen.scalar import FLOATS
from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.bits import BitShift
from compiler.ops.quant import DequantizeLinear, QuantizeLinear
from compiler.tensor import DTYPES, DType
from targets.source.activations import ACTIVATIONS
from targets.source.elements import BOOL8, KINDS, bounds, convert, element_type, number, plain_type, widened


class Layer(NamedTuple):
    """What there is to know of an element-by-element layer: its operation, its operands in the types in which they are
    computed with, and the type in which its result is."""

    op: Any  # Any: the operation, whose class is the key of the maker
    x: Sequence[Expression]
    ctype: str

    def apply(self, function: str, *arguments: Expression) -> Expression:
        """A function whose result has the type of the layer's."""
        return Apply(function, arguments, self.ctype)


Maker = Callable[[Layer], Expression]
EXPRESSIONS: dict[type[Op], Maker] = {}


def expression_of(node: Node, operands: Sequence[Expression]) -> Expression | None:
    """What a layer computes of its operands, element by element, in the type of its result; None if it does something
    else."""
    made = result_of(node, operands)
    return None if made is None else convert(made, element_type(node.output.type.dtype))


def result_of(node: Node, operands: Sequence[Expression]) -> Expression | None:
    """The same in the type in which it is computed."""
    maker = EXPRESSIONS.get(type(node.op))
    if maker is None or not computes(node):
        return None
    if isinstance(node.op, ops.Cast):
        return _cast(operands[0], node.op)
    return maker(Layer(node.op, [widened(x) for x in operands], plain_type(node.output.type.dtype)))


def computes(node: Node) -> bool:
    """Whether all elements are of types that can be computed with."""
    values = [v for v in (*node.inputs, *node.outputs) if v is not None]
    return all(v.type.dtype.kind in KINDS for v in values)


def _plain(function: str) -> Maker:
    return lambda layer: layer.apply(function, *layer.x)


PLAIN = {
    ops.Add: "add", ops.Sub: "sub", ops.Mul: "mul", ops.Div: "div", ops.Neg: "neg", ops.Abs: "abs", ops.Sign: "sign",
    ops.Floor: "floor", ops.Ceil: "ceil", ops.Round: "round", ops.Sqrt: "sqrt", ops.Exp: "exp", ops.Log: "log",
    ops.Sin: "sin", ops.Cos: "cos", ops.Tan: "tan", ops.Asin: "asin", ops.Acos: "acos", ops.Atan: "atan",
    ops.Sinh: "sinh", ops.Cosh: "cosh", ops.Asinh: "asinh", ops.Acosh: "acosh", ops.Atanh: "atanh", ops.Tanh: "tanh",
    ops.Erf: "erf", ops.Not: "not", ops.BitwiseNot: "bit_not", ops.Less: "less", ops.Greater: "greater",
    ops.LessOrEqual: "less_or_equal", ops.GreaterOrEqual: "greater_or_equal", ops.And: "and", ops.Or: "or",
    ops.Xor: "xor", ops.BitwiseAnd: "bit_and", ops.BitwiseOr: "bit_or", ops.BitwiseXor: "bit_xor",
}  # fmt: skip
for _op, _function in PLAIN.items():
    EXPRESSIONS[_op] = _plain(_function)


def _equal(layer: Layer) -> Expression:
    if layer.x[0].ctype == BOOL8:
        return layer.apply("not", layer.apply("xor", *layer.x))
    return layer.apply("equal", *layer.x)


def _infinite(layer: Layer) -> Expression:
    x = layer.x[0]
    infinity = Number(float("inf"), x.ctype)
    if layer.op.detect_negative and layer.op.detect_positive:
        return layer.apply("equal", Apply("abs", (x,), x.ctype), infinity)
    if layer.op.detect_positive:
        return layer.apply("equal", x, infinity)
    none = Number(float("nan"), x.ctype)
    return layer.apply("equal", x, Number(float("-inf"), x.ctype) if layer.op.detect_negative else none)


def _folded(function: str) -> Maker:
    return lambda layer: reduce(lambda a, b: layer.apply(function, a, b), layer.x)


def _mean(layer: Layer) -> Expression:
    return layer.apply("div", _folded("add")(layer), Number(len(layer.x), layer.ctype))


def _where(layer: Layer) -> Expression:
    condition, x, y = layer.x
    if layer.ctype == BOOL8:
        yes = layer.apply("and", condition, x)
        return layer.apply("or", yes, layer.apply("and", layer.apply("not", condition), y))
    return layer.apply("select", condition, x, y)


POWERS: dict[float, Callable[[Layer, Expression], Expression]] = {
    1.0: lambda _, x: x,
    2.0: lambda layer, x: layer.apply("mul", x, x),
    3.0: lambda layer, x: layer.apply("mul", layer.apply("mul", x, x), x),
    0.5: lambda layer, x: layer.apply("sqrt", layer.apply("add", x, Number(0.0, layer.ctype))),
    -1.0: lambda layer, x: layer.apply("div", Number(1.0, layer.ctype), x),
    -0.5: lambda layer, x: layer.apply("div", Number(1.0, layer.ctype), POWERS[0.5](layer, x)),
}


def _pow(layer: Layer) -> Expression:
    """In float64 where the types of the two are of different kinds, unless both are small enough."""
    x, y = layer.x
    if x.ctype in FLOATS and isinstance(y, Number) and float(y.value) in POWERS:
        return POWERS[float(y.value)](layer, x)
    if x.ctype == y.ctype:
        return layer.apply("pow", x, y)
    integers = x.ctype not in FLOATS and y.ctype not in FLOATS
    if integers and x.ctype.startswith("u") == y.ctype.startswith("u"):
        return layer.apply("pow", x, y)
    return convert(Apply("pow", (convert(x, "double"), convert(y, "double")), "double"), layer.ctype)


def _rest(layer: Layer) -> Expression:
    return layer.apply("cut_rest" if layer.op.fmod else "floored_rest", *layer.x)


def _shift(layer: Layer) -> Expression:
    width = float("".join(c for c in layer.ctype if c.isdigit()))
    function = "shift_left" if layer.op.direction == "LEFT" else "shift_right"
    return Apply(function, tuple(layer.x), layer.ctype, (width,))


EXPRESSIONS[ops.Equal] = _equal
EXPRESSIONS[ops.IsNaN] = lambda layer: layer.apply("unequal", layer.x[0], layer.x[0])
EXPRESSIONS[ops.IsInf] = _infinite
EXPRESSIONS[ops.Reciprocal] = lambda layer: layer.apply("div", Number(1.0, layer.ctype), layer.x[0])
EXPRESSIONS[ops.Max] = _folded("max")
EXPRESSIONS[ops.Min] = _folded("min")
EXPRESSIONS[ops.Sum] = _folded("add")
EXPRESSIONS[ops.Mean] = _mean
EXPRESSIONS[ops.Where] = _where
EXPRESSIONS[ops.Pow] = _pow
EXPRESSIONS[ops.Mod] = _rest
EXPRESSIONS[BitShift] = _shift
EXPRESSIONS[ops.Cast] = lambda layer: layer.x[0]  # `expression_of` knows better
for _op, _activation in ACTIVATIONS.items():
    EXPRESSIONS[_op] = lambda layer, made=_activation: made(layer)  # type: ignore[misc]  # bound early


# -- conversions that say themselves what type their result has -------------------------------------------------------

ROUNDINGS = ("up", "nearest", "down")


def _cast(x: Expression, op: ops.Cast) -> Expression:
    return cast_to(x, DTYPES[op.to], op.saturate, op.round_mode)


def cast_to(x: Expression, dtype: DType, saturates: bool = True, rounding: str = "up") -> Expression:
    """x in another element type."""
    numbers = () if saturates and rounding == "up" else (int(saturates), ROUNDINGS.index(rounding))
    return convert(x, element_type(dtype), numbers)


def quantized(op: QuantizeLinear, x: Expression, scale: Expression, zero: Expression | None) -> Expression:
    """x / scale, rounded, plus the zero point, within the range of the result."""
    dtype = DTYPES[op.dtype]
    precision = element_type(DTYPES[op.precision]) if op.precision else scale.ctype
    x, scale = (widened(convert(widened(e), precision)) for e in (x, scale))
    y: Expression = Apply("div", (x, scale), x.ctype)
    y = widened(convert(y, precision))
    shift = None if zero is None else convert(widened(zero), y.ctype)
    if dtype.is_float:
        shifted = y if shift is None else Apply("add", (y, shift), y.ctype)
        return cast_to(shifted, dtype, op.saturate)
    if dtype.bits > 16 and y.ctype == "float":
        y, shift = convert(y, "double"), None if shift is None else convert(widened(zero), "double")  # type: ignore[arg-type]  # both are None at once
    low, high = bounds(dtype)
    y = Apply("round", (y,), y.ctype)
    y = Apply("select", (Apply("unequal", (y, y), BOOL8), Number(0.0, y.ctype), y), y.ctype)
    if shift is not None:
        y = Apply("add", (y, shift), y.ctype)
    limited = Apply("min", (Apply("max", (y, Number(low, y.ctype)), y.ctype), Number(high, y.ctype)), y.ctype)
    return convert(Apply("cut", (limited,), plain_type(dtype)), element_type(dtype))


def dequantized(op: DequantizeLinear, x: Expression, scale: Expression, zero: Expression | None) -> Expression:
    """(x - zero point) * scale."""
    to = element_type(DTYPES[op.dtype]) if op.dtype else scale.ctype
    wide = "double" if "double" in (to, scale.ctype) or x.ctype == "int32_t" else "float"
    y = convert(widened(x), wide)
    if zero is not None:
        y = Apply("sub", (y, convert(widened(zero), wide)), wide)
    return convert(Apply("mul", (y, convert(widened(scale), wide)), wide), to)


__all__ = ["EXPRESSIONS", "Layer", "cast_to", "dequantized", "expression_of", "number", "quantized"]

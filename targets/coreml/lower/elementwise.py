"""Element-by-element operations and activations."""

from __future__ import annotations

from math import inf

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.tensor import BOOL, DTYPES
from targets.coreml.lower.table import ANY_NUMBER, FLOAT, FLOATS, INTS, NUMBER, Lowering, lowers, op_need, operand_types
from targets.coreml.mil import Operand, Var

SAME = {  # one operation of MIL that takes x alone
    ops.Sign: "sign",
    ops.Floor: "floor",
    ops.Ceil: "ceil",
    ops.Round: "round",
    ops.Sqrt: "sqrt",
    ops.Exp: "exp",
    ops.Sin: "sin",
    ops.Cos: "cos",
    ops.Tan: "tan",
    ops.Asin: "asin",
    ops.Acos: "acos",
    ops.Atan: "atan",
    ops.Sinh: "sinh",
    ops.Cosh: "cosh",
    ops.Atanh: "atanh",
    ops.Tanh: "tanh",
    ops.Erf: "erf",
    ops.Sigmoid: "sigmoid",
    ops.Softplus: "softplus",
    ops.Softsign: "softsign",
}
WITH_ALPHA = {ops.LeakyRelu: "leaky_relu", ops.Elu: "elu", ops.ThresholdedRelu: "thresholded_relu"}


def _same(p: Lowering, node: Node, op: Op) -> None:
    p.emit(node, SAME[type(op)], x=p.operands(node)[0])


lowers(*SAME, needs=[FLOAT])(_same)


@lowers(*WITH_ALPHA, needs=[FLOAT])
def _with_alpha(p: Lowering, node: Node, op: ops.LeakyRelu) -> None:
    p.emit(node, WITH_ALPHA[type(op)], x=p.operands(node)[0], alpha=op.alpha)


@lowers(ops.Identity)
def _identity(p: Lowering, node: Node, op: Op) -> None:
    (x,) = node.inputs
    assert x is not None
    p.bind(node.output, p[x])


@lowers(ops.Abs, needs=[NUMBER])
def _abs(p: Lowering, node: Node, op: Op) -> None:
    p.emit(node, "abs", x=p.operands(node)[0])


@lowers(ops.Neg, needs=[NUMBER])
def _neg(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    p.emit(node, "mul", x=x, y=-1.0 if x.dtype == p.precision else -1)


@lowers(ops.Reciprocal, needs=[FLOAT])
def _reciprocal(p: Lowering, node: Node, op: Op) -> None:
    p.emit(node, "inverse", x=p.operands(node)[0], epsilon=0.0)


@lowers(ops.Log, needs=[FLOAT])
def _log(p: Lowering, node: Node, op: Op) -> None:
    p.emit(node, "log", x=p.operands(node)[0], epsilon=0.0)


@lowers(ops.Relu, needs=[NUMBER])
def _relu(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    if x.dtype == p.precision:
        p.emit(node, "relu", x=x)
    else:
        p.emit(node, "maximum", x=x, y=0)


@lowers(ops.Clip, needs=[NUMBER])
def _clip(p: Lowering, node: Node, op: ops.Clip) -> None:
    (x,) = p.operands(node)
    if x.dtype != p.precision:
        low, high = (int(max(min(b, 2**31 - 1), -(2**31))) for b in (op.low, op.high))
        p.emit(node, "minimum", x=p.like(x, "maximum", y=low), y=high)
    elif (op.low, op.high) == (0.0, 6.0):
        p.emit(node, "relu6", x=x)
    elif op.low == 0.0 and op.high == inf:
        p.emit(node, "relu", x=x)
    elif op.high == inf:
        p.emit(node, "maximum", x=x, y=op.low)
    elif op.low == -inf or op.low > op.high:
        p.emit(node, "minimum", x=x if op.low == -inf else p.like(x, "maximum", y=op.low), y=op.high)
    else:
        p.emit(node, "clip", x=x, alpha=op.low, beta=op.high)


@lowers(ops.HardSigmoid, needs=[FLOAT])
def _hard_sigmoid(p: Lowering, node: Node, op: ops.HardSigmoid) -> None:
    p.emit(node, "sigmoid_hard", x=p.operands(node)[0], alpha=op.alpha, beta=op.beta)


@lowers(ops.HardSwish, needs=[FLOAT])
def _hard_swish(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    p.emit(node, "mul", x=x, y=p.like(x, "sigmoid_hard", alpha=1 / 6, beta=0.5))


@lowers(ops.Silu, needs=[FLOAT])
def _silu(p: Lowering, node: Node, op: ops.Silu) -> None:
    (x,) = p.operands(node)
    if op.alpha == 1.0:
        p.emit(node, "silu", x=x)
    else:
        p.emit(node, "mul", x=x, y=p.like(p.like(x, "mul", y=op.alpha), "sigmoid"))


@lowers(ops.Gelu, needs=[FLOAT])
def _gelu(p: Lowering, node: Node, op: ops.Gelu) -> None:
    mode = "TANH_APPROXIMATION" if op.approximate == "tanh" else "EXACT"
    p.emit(node, "gelu", x=p.operands(node)[0], mode=mode)


@lowers(ops.Mish, needs=[FLOAT])
def _mish(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    p.emit(node, "mul", x=x, y=p.like(p.like(x, "softplus"), "tanh"))


@lowers(ops.Selu, needs=[FLOAT])
def _selu(p: Lowering, node: Node, op: ops.Selu) -> None:
    (x,) = p.operands(node)
    p.emit(node, "mul", x=p.like(x, "elu", alpha=op.alpha), y=op.gamma)


@lowers(ops.Celu, needs=[FLOAT])
def _celu(p: Lowering, node: Node, op: ops.Celu) -> None:
    (x,) = p.operands(node)
    scaled = p.like(x, "mul", y=1 / op.alpha)
    p.emit(node, "mul", x=p.like(scaled, "elu", alpha=1.0), y=op.alpha)


@lowers(ops.Shrink, needs=[FLOAT])
def _shrink(p: Lowering, node: Node, op: ops.Shrink) -> None:
    (x,) = p.operands(node)
    above = _test(p, "greater", x, op.lambd)
    below = _test(p, "less", x, -op.lambd)
    inner = p.add(
        "select", {"cond": above, "a": p.like(x, "sub", y=op.bias), "b": p.like(x, "mul", y=0.0)}, x.dtype, x.shape
    )
    p.emit(node, "select", cond=below, a=p.like(x, "add", y=op.bias), b=inner)


@lowers(ops.PRelu, needs=[FLOAT])
def _prelu(p: Lowering, node: Node, op: Op) -> None:
    x, slope = p.operands(node)
    tail = p.binary("mul", p.like(x, "minimum", y=0.0), slope)
    p.emit(node, "add", x=p.like(x, "relu"), y=tail)


@lowers(ops.Asinh, ops.Acosh, needs=[FLOAT])
def _inverse_hyperbolic(p: Lowering, node: Node, op: Op) -> None:
    """log(x + sqrt(x^2 + 1)) for asinh (odd, so of |x| with the sign put back), log(x + sqrt(x^2 - 1)) for acosh."""
    (x,) = p.operands(node)
    odd = isinstance(op, ops.Asinh)
    size = p.like(x, "abs") if odd else x
    root = p.like(p.like(p.like(size, "square"), "add", y=1.0 if odd else -1.0), "sqrt")
    total = p.like(size, "add", y=root)
    if odd:
        p.emit(node, "mul", x=p.like(total, "log", epsilon=0.0), y=p.like(x, "sign"))
    else:
        p.emit(node, "log", x=total, epsilon=0.0)


@lowers(ops.Not, needs=[operand_types(BOOL)])
def _not(p: Lowering, node: Node, op: Op) -> None:
    p.emit(node, "logical_not", x=p.operands(node)[0])


@lowers(ops.IsNaN)
def _is_nan(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    p.emit(node, "not_equal", x=x, y=x)


@lowers(ops.IsInf)
def _is_inf(p: Lowering, node: Node, op: ops.IsInf) -> None:
    (x,) = p.operands(node)
    if op.detect_negative and op.detect_positive:
        p.emit(node, "equal", x=p.like(x, "abs"), y=inf)
    elif op.detect_negative or op.detect_positive:
        p.emit(node, "equal", x=x, y=inf if op.detect_positive else -inf)
    else:
        p.emit(node, "logical_and", x=_test(p, "equal", x, inf), y=_test(p, "equal", x, -inf))


def _test(p: Lowering, kind: str, x: Var, y: Operand) -> Var:
    shape = np.broadcast_shapes(x.shape, y.shape) if isinstance(y, Var) else x.shape
    return p.add(kind, {"x": x, "y": y}, "bool", shape)


BINARY: dict[type[Op], str] = {
    ops.Add: "add",
    ops.Sub: "sub",
    ops.Mul: "mul",
    ops.Less: "less",
    ops.Greater: "greater",
    ops.LessOrEqual: "less_equal",
    ops.GreaterOrEqual: "greater_equal",
}
LOGIC: dict[type[Op], str] = {ops.And: "logical_and", ops.Or: "logical_or", ops.Xor: "logical_xor"}


@lowers(*BINARY, needs=[operand_types(*FLOATS, *INTS, BOOL)])
def _binary(p: Lowering, node: Node, op: Op) -> None:
    x, y = p.operands(node)
    p.emit(node, BINARY[type(op)], x=x, y=y)


@lowers(*LOGIC, needs=[operand_types(BOOL)])
def _logic(p: Lowering, node: Node, op: Op) -> None:
    x, y = p.operands(node)
    p.emit(node, LOGIC[type(op)], x=x, y=y)


@lowers(ops.Equal, needs=[ANY_NUMBER])
def _equal(p: Lowering, node: Node, op: Op) -> None:
    x, y = (p.cast(v, "int32") if v.dtype == "bool" else v for v in p.operands(node))
    p.emit(node, "equal", x=x, y=y)


@lowers(ops.Div, needs=[NUMBER])
def _div(p: Lowering, node: Node, op: Op) -> None:
    x, y = p.operands(node)
    if x.dtype == p.precision:
        p.emit(node, "real_div", x=x, y=y)
        return
    sign = p.binary("mul", p.like(x, "sign"), p.like(y, "sign"))
    p.emit(node, "mul", x=p.binary("floor_div", p.like(x, "abs"), p.like(y, "abs")), y=sign)


@lowers(ops.Pow, needs=[operand_types(*FLOATS, *INTS)])
def _pow(p: Lowering, node: Node, op: Op) -> None:
    x, y = (p.cast(v, p.precision) for v in p.operands(node))
    result = p.binary("pow", x, y)
    p.bind(node.output, p.cast(result, p.dtype(node.output.type.dtype)))


@lowers(ops.Mod, needs=[NUMBER])
def _mod(p: Lowering, node: Node, op: ops.Mod) -> None:
    x, y = p.operands(node)
    if not op.fmod:
        p.emit(node, "mod", x=x, y=y)
        return
    rest = p.binary("mod", p.like(x, "abs"), p.like(y, "abs"))
    p.emit(node, "mul", x=rest, y=p.like(x, "sign"))


def _folded(p: Lowering, node: Node, kind: str) -> Var:
    first, *others = p.operands(node)
    for v in others:
        first = p.binary(kind, first, v)
    return first


VARIADIC: dict[type[Op], str] = {ops.Max: "maximum", ops.Min: "minimum", ops.Sum: "add"}


@lowers(*VARIADIC, needs=[NUMBER])
def _variadic(p: Lowering, node: Node, op: Op) -> None:
    p.bind(node.output, _folded(p, node, VARIADIC[type(op)]))


@lowers(ops.Mean, needs=[FLOAT])
def _mean(p: Lowering, node: Node, op: Op) -> None:
    p.emit(node, "mul", x=_folded(p, node, "add"), y=1 / len(node.inputs))


@lowers(ops.Where)
def _where(p: Lowering, node: Node, op: Op) -> None:
    condition, x, y = p.operands(node)
    if x.dtype == "bool":
        chosen = p.add(
            "select",
            {"cond": condition, "a": p.cast(x, "int32"), "b": p.cast(y, "int32")},
            "int32",
            node.output.type.dims,
        )
        p.bind(node.output, p.cast(chosen, "bool"))
    else:
        p.emit(node, "select", cond=condition, a=x, b=y)


CASTS = op_need("a cast to float, int32, int64 or bool", lambda op: DTYPES[op.to] in (*FLOATS, *INTS, BOOL))


@lowers(ops.Cast, needs=[CASTS])
def _cast(p: Lowering, node: Node, op: ops.Cast) -> None:
    (x,) = p.operands(node)
    target = p.dtype(DTYPES[op.to])
    narrowed = p.precision == "fp32" and op.to == "f16" and x.dtype == "fp32"
    p.bind(node.output, p.cast(p.cast(x, "fp16"), "fp32") if narrowed else p.cast(x, target))

"""Functions of one float: activations and elementary functions."""

from __future__ import annotations

from math import inf

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from targets.coreml.lower.lowering import Lowering
from targets.coreml.lower.table import FLOAT, NUMBER, lowers

SAME = {  # one operation of MIL that takes x alone
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
WITH_ALPHA = {ops.LeakyRelu: "leaky_relu", ops.Elu: "elu"}
INT32 = (-(2**31), 2**31 - 1)


@lowers(*SAME, needs=[FLOAT])
def _same(p: Lowering, node: Node, op: Op) -> None:
    p.emit(node, SAME[type(op)], x=p.operands(node)[0])


@lowers(*WITH_ALPHA, needs=[FLOAT])
def _with_alpha(p: Lowering, node: Node, op: ops.LeakyRelu) -> None:
    p.emit(node, WITH_ALPHA[type(op)], x=p.operands(node)[0], alpha=op.alpha)


@lowers(ops.ThresholdedRelu, needs=[FLOAT])
def _thresholded_relu(p: Lowering, node: Node, op: ops.ThresholdedRelu) -> None:
    """MIL's own keeps x where it equals alpha, ONNX's does not."""
    (x,) = p.operands(node)
    p.bind(node.output, p.select(p.test("greater", x, op.alpha), x, 0.0, name=node.output.name))


@lowers(ops.Reciprocal, needs=[FLOAT])
def _reciprocal(p: Lowering, node: Node, op: Op) -> None:
    p.emit(node, "inverse", x=p.operands(node)[0], epsilon=0.0)


@lowers(ops.Log, needs=[FLOAT])
def _log(p: Lowering, node: Node, op: Op) -> None:
    p.emit(node, "log", x=p.operands(node)[0], epsilon=0.0)


@lowers(ops.Relu, needs=[NUMBER])
def _relu(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    if x.dtype == "int32":
        p.emit(node, "maximum", x=x, y=0)
    else:
        p.emit(node, "relu", x=x)


@lowers(ops.Clip, needs=[NUMBER])
def _clip(p: Lowering, node: Node, op: ops.Clip) -> None:
    (x,) = p.operands(node)
    if x.dtype == "int32":
        low, high = (int(max(min(b, INT32[1]), INT32[0])) for b in (op.low, op.high))
        p.emit(node, "minimum", x=p.like(x, "maximum", y=low), y=high)
    elif (op.low, op.high) == (0.0, 6.0):
        p.emit(node, "relu6", x=x)
    elif op.low == 0.0 and op.high == inf:
        p.emit(node, "relu", x=x)
    elif op.high == inf:
        p.emit(node, "maximum", x=x, y=op.low)
    elif op.low == -inf or op.low >= op.high:
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


@lowers(ops.Shrink, needs=[NUMBER])
def _shrink(p: Lowering, node: Node, op: ops.Shrink) -> None:
    (given,) = p.operands(node)
    x = p.cast(given, "fp32") if given.dtype == "int32" else given
    above = p.test("greater", x, op.lambd)
    below = p.test("less", x, -op.lambd)
    inner = p.select(above, p.like(x, "sub", y=op.bias), p.like(x, "mul", y=0.0))
    y = p.select(below, p.like(x, "add", y=op.bias), inner, name=node.output.name)
    p.finish(node, p.cast(y, given.dtype))


@lowers(ops.PRelu, needs=[NUMBER])
def _prelu(p: Lowering, node: Node, op: Op) -> None:
    x, slope = p.operands(node)
    zero = 0 if x.dtype == "int32" else 0.0
    tail = p.binary("mul", p.like(x, "minimum", y=zero), slope)
    p.finish(node, p.binary("add", p.like(x, "maximum", y=zero), tail))


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


@lowers(ops.Abs, needs=[NUMBER])
def _abs(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    p.finish(node, p.add("abs", {"x": x}, x.dtype, x.shape, node.output.name))


@lowers(ops.Sign, needs=[NUMBER])
def _sign(p: Lowering, node: Node, op: Op) -> None:
    p.emit(node, "sign", x=p.operands(node)[0])


@lowers(ops.Neg, needs=[NUMBER])
def _neg(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    y = p.like(x, "mul", y=-1 if x.dtype == "int32" else -1.0)
    p.finish(node, y)

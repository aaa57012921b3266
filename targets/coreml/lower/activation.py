"""Functions of one float: activations and elementary functions."""

from __future__ import annotations

from math import inf

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.target import op_need
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


@lowers(ops.Silu, needs=[FLOAT, op_need("an alpha of 1", lambda op: op.alpha == 1)])
def _silu(p: Lowering, node: Node, op: ops.Silu) -> None:
    p.emit(node, "silu", x=p.operands(node)[0])


@lowers(ops.Gelu, needs=[FLOAT])
def _gelu(p: Lowering, node: Node, op: ops.Gelu) -> None:
    mode = "TANH_APPROXIMATION" if op.approximate == "tanh" else "EXACT"
    p.emit(node, "gelu", x=p.operands(node)[0], mode=mode)


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

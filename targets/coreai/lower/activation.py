"""Functions of one float: activations and elementary functions."""

from __future__ import annotations

from math import inf

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.target import op_need
from targets.coreai.dtypes import limits
from targets.coreai.lower.lowering import FLOATS, Lowering
from targets.coreai.lower.table import FLOAT, NUMBER, lowers
from targets.coreai.program import Var

SAME: dict[type[Op], str] = {
    ops.Round: "round",
    ops.Sqrt: "sqrt",
    ops.Exp: "exp",
    ops.Log: "log",
    ops.Sin: "sin",
    ops.Cos: "cos",
    ops.Tan: "tan",
    ops.Asin: "asin",
    ops.Acos: "acos",
    ops.Atan: "atan",
    ops.Sinh: "sinh",
    ops.Cosh: "cosh",
    ops.Asinh: "asinh",
    ops.Acosh: "acosh",
    ops.Atanh: "atanh",
    ops.Tanh: "tanh",
    ops.Erf: "erf",
    ops.Sigmoid: "sigmoid",
}


@lowers(*SAME, needs=[FLOAT])
def _same(p: Lowering, node: Node, op: Op) -> None:
    p.bind(node.output, p.unary(SAME[type(op)], p.operands(node)[0]))


@lowers(ops.Floor, needs=[FLOAT])
def _floor(p: Lowering, node: Node, op: Op) -> None:
    p.bind(node.output, floor(p, p.operands(node)[0]))


def floor(p: Lowering, x: Var) -> Var:
    """The next whole number below: the quotient by 1, rounded down."""
    return p.binary("floor_divide", x, 1.0)


@lowers(ops.Ceil, needs=[FLOAT])
def _ceil(p: Lowering, node: Node, op: Op) -> None:
    below = floor(p, p.binary("mul", p.operands(node)[0], -1.0))
    p.bind(node.output, p.binary("mul", below, -1.0))


@lowers(ops.Relu, needs=[NUMBER])
def _relu(p: Lowering, node: Node, op: Op) -> None:
    p.bind(node.output, p.unary("relu", p.operands(node)[0]))


@lowers(ops.LeakyRelu, needs=[FLOAT])
def _leaky_relu(p: Lowering, node: Node, op: ops.LeakyRelu) -> None:
    p.bind(node.output, leaky_relu(p, p.operands(node)[0], op.alpha))


def leaky_relu(p: Lowering, x: Var, alpha: float) -> Var:
    """`x`, times alpha where it is negative."""
    scaled = p.binary("mul", x, alpha)
    return p.binary("maximum", x, scaled) if 0 <= alpha <= 1 else p.select(p.test("less", x, 0), scaled, x)


@lowers(ops.Reciprocal, needs=[FLOAT])
def _reciprocal(p: Lowering, node: Node, op: Op) -> None:
    p.bind(node.output, p.binary("divide", 1.0, p.operands(node)[0]))


@lowers(ops.Clip, needs=[NUMBER])
def _clip(p: Lowering, node: Node, op: ops.Clip) -> None:
    p.bind(node.output, clipped(p, p.operands(node)[0], op.low, op.high))


def clipped(p: Lowering, x: Var, low: float, high: float) -> Var:
    """`x` limited to a range, `high` where both ends cross."""
    if x.dtype not in FLOATS:
        least, most = limits(x.dtype)
        low, high = (int(max(min(b, most), least)) for b in (low, high))
        x = x if low == least else p.binary("maximum", x, low)
        return x if high == most else p.binary("minimum", x, high)
    if low == 0.0:
        x = p.unary("relu", x)
    elif low > -inf:
        x = p.binary("maximum", x, low)
    return x if high == inf else p.binary("minimum", x, high)


@lowers(ops.HardSigmoid, needs=[FLOAT])
def _hard_sigmoid(p: Lowering, node: Node, op: ops.HardSigmoid) -> None:
    p.bind(node.output, hard_sigmoid(p, p.operands(node)[0], op.alpha, op.beta))


def hard_sigmoid(p: Lowering, x: Var, alpha: float, beta: float) -> Var:
    """alpha x + beta, limited to 0 ... 1."""
    return clipped(p, p.binary("add", p.binary("mul", x, alpha), beta), 0.0, 1.0)


@lowers(ops.HardSwish, needs=[FLOAT])
def _hard_swish(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    p.bind(node.output, p.binary("mul", x, hard_sigmoid(p, x, 1 / 6, 0.5)))


@lowers(ops.Silu, needs=[FLOAT, op_need("an alpha of 1", lambda op: op.alpha == 1)])
def _silu(p: Lowering, node: Node, op: ops.Silu) -> None:
    """As a product: the Neural Engine has no path for the dialect's own operation."""
    (x,) = p.operands(node)
    p.bind(node.output, p.binary("mul", x, p.unary("sigmoid", x)))


@lowers(ops.Gelu, needs=[FLOAT])
def _gelu(p: Lowering, node: Node, op: ops.Gelu) -> None:
    mode = "tanh" if op.approximate == "tanh" else "none"
    p.bind(node.output, p.unary("gelu", p.operands(node)[0], f"approximate = #coreai.approximate<{mode}>"))


@lowers(ops.Softplus, needs=[FLOAT])
def _softplus(p: Lowering, node: Node, op: Op) -> None:
    p.bind(node.output, softplus(p, p.operands(node)[0]))


def softplus(p: Lowering, x: Var) -> Var:
    """max(x, 0) + log(1 + exp(-|x|)), which cannot overflow."""
    small = p.unary("exp", p.binary("mul", p.unary("abs", x), -1.0))
    return p.binary("add", p.unary("relu", x), p.unary("log", p.binary("add", small, 1.0)))


@lowers(ops.Softsign, needs=[FLOAT])
def _softsign(p: Lowering, node: Node, op: Op) -> None:
    p.bind(node.output, softsign(p, p.operands(node)[0]))


def softsign(p: Lowering, x: Var) -> Var:
    """x / (1 + |x|)."""
    return p.binary("divide", x, p.binary("add", p.unary("abs", x), 1.0))


@lowers(ops.Elu, needs=[FLOAT])
def _elu(p: Lowering, node: Node, op: ops.Elu) -> None:
    p.bind(node.output, elu(p, p.operands(node)[0], op.alpha))


def elu(p: Lowering, x: Var, alpha: float) -> Var:
    """max(x, 0) + alpha (exp(min(x, 0)) - 1)."""
    below = p.binary("sub", p.unary("exp", p.binary("minimum", x, 0.0)), 1.0)
    return p.binary("add", p.unary("relu", x), p.binary("mul", below, alpha))

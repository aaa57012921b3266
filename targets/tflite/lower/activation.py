"""Activation functions and the elementwise functions that no builtin computes directly."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt
from typing import Any

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from targets.tflite import opset
from targets.tflite.lower.elementwise import one, together
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import FLOAT, NUMBER, lowers
from targets.tflite.model import NUMPY, Tensor

FUSED = {(0.0, inf): opset.RELU, (-1.0, 1.0): opset.RELU_N1_TO_1, (0.0, 6.0): opset.RELU6}
CLIPS = {(0.0, inf): "RELU", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 6.0): "RELU6", (0.0, 1.0): "RELU_0_TO_1"}


@lowers(ops.Relu, ops.Clip, needs=[NUMBER])
def _clip(p: Lowering, node: Node, op: Op) -> None:
    low, high = (op.low, op.high) if isinstance(op, ops.Clip) else (0.0, inf)
    code = FUSED.get((low, high))
    if code is not None and p.fused(node, code):
        return
    x, order = one(p, node)
    p.finish(node, clipped(p, x, low, high), order)


def clipped(p: Lowering, x: Tensor, low: float, high: float) -> Tensor:
    """min(max(x, low), high)."""
    if x.dtype == "FLOAT32":
        if (low, high) in CLIPS:
            return p.unary(CLIPS[low, high], x)
        bounds: tuple[float | int | None, ...] = (low if low > -inf else None, high if high < inf else None)
    else:
        info = np.iinfo(NUMPY[x.dtype])
        bounds = (int(low) if low > info.min else None, int(high) if high < info.max else None)
    for code, bound in zip(("MAXIMUM", "MINIMUM"), bounds, strict=True):
        x = x if bound is None else p.binary(code, x, p.scalar(bound, x.dtype))
    return x


Formula = Callable[[Lowering, Tensor, Any], Tensor]  # Any: the operation, whose class the table names


def _positive(p: Lowering, x: Tensor) -> Tensor:
    return p.unary("RELU", x)


def _negative(p: Lowering, x: Tensor) -> Tensor:
    return p.binary("MINIMUM", x, p.scalar(0.0))


def _exponential(p: Lowering, x: Tensor, alpha: float, gamma: float = 1.0, scale: float = 1.0) -> Tensor:
    """gamma * (x where x >= 0, else alpha * (exp(x / scale) - 1))."""
    below = p.unary("ELU", p.times(_negative(p, x), 1 / scale))
    return p.binary("ADD", p.times(_positive(p, x), gamma), p.times(below, alpha * gamma))


def _softplus(p: Lowering, x: Tensor, op: Op) -> Tensor:
    """max(x, 0) + log(1 + exp(-|x|))."""
    tail = p.unary("LOG", p.plus(p.unary("EXP", p.unary("NEG", p.unary("ABS", x))), 1.0))
    return p.binary("ADD", _positive(p, x), tail)


def _hard_sigmoid(p: Lowering, x: Tensor, op: ops.HardSigmoid) -> Tensor:
    """relu6(x + 3) / 6 where that is the same, else the clipped line."""
    if abs(op.alpha - 1 / 6) < 1e-7 and op.beta == 0.5:
        return p.times(p.unary("RELU6", p.plus(x, 3.0)), 1 / 6)
    return p.unary("RELU_0_TO_1", p.plus(p.times(x, op.alpha), op.beta))


def _erf(p: Lowering, x: Tensor, op: Op) -> Tensor:
    """2 gelu(y) / y - 1 at y = sqrt(2) x, for gelu(y) = y Phi(y); 0 at 0. Beyond |x| = 5 it is 1 in float32."""
    y = p.times(clipped(p, x, -5.0, 5.0), sqrt(2))
    ratio = p.binary("DIV", p.unary("GELU", y, Approximate=False), y)
    value = p.plus(p.times(ratio, 2.0), -1.0)
    return p.select(p.binary("EQUAL", y, p.scalar(0.0)), p.times(x, 2 / sqrt(np.pi)), value)


def _mish(p: Lowering, x: Tensor, op: Op) -> Tensor:
    return p.binary("MUL", x, p.unary("TANH", _softplus(p, x, op)))


def _thresholded(p: Lowering, x: Tensor, op: ops.ThresholdedRelu) -> Tensor:
    return p.select(p.binary("GREATER", x, p.scalar(op.alpha)), x, p.scalar(0.0))


def _shrink(p: Lowering, x: Tensor, op: ops.Shrink) -> Tensor:
    inside = p.select(p.binary("GREATER", x, p.scalar(op.lambd)), p.plus(x, -op.bias), p.scalar(0.0))
    return p.select(p.binary("LESS", x, p.scalar(-op.lambd)), p.plus(x, op.bias), inside)


def _leg(p: Lowering, x: Tensor) -> Tensor:
    """sqrt((1 - x) (1 + x))."""
    return p.unary("SQRT", p.binary("MUL", p.binary("SUB", p.scalar(1.0), x), p.plus(x, 1.0)))


def _exponentials(p: Lowering, x: Tensor, sign: str) -> Tensor:
    return p.times(p.binary(sign, p.unary("EXP", x), p.unary("EXP", p.unary("NEG", x))), 0.5)


def _asinh(p: Lowering, x: Tensor, op: Op) -> Tensor:
    """sign(x) log(|x| + sqrt(x^2 + 1))."""
    size = p.unary("ABS", x)
    root = p.unary("SQRT", p.plus(p.unary("SQUARE", x), 1.0))
    return p.binary("MUL", p.unary("SIGN", x), p.unary("LOG", p.binary("ADD", size, root)))


def _acosh(p: Lowering, x: Tensor, op: Op) -> Tensor:
    return p.unary("LOG", p.binary("ADD", x, p.unary("SQRT", p.binary("MUL", p.plus(x, -1.0), p.plus(x, 1.0)))))


def _atanh(p: Lowering, x: Tensor, op: Op) -> Tensor:
    quotient = p.binary("DIV", p.plus(x, 1.0), p.binary("SUB", p.scalar(1.0), x))
    return p.times(p.unary("LOG", quotient), 0.5)


FORMULAS: dict[type[Op], Formula] = {
    ops.Acos: lambda p, x, _: p.binary("ATAN2", _leg(p, x), x),
    ops.Acosh: _acosh,
    ops.Asin: lambda p, x, _: p.binary("ATAN2", x, _leg(p, x)),
    ops.Asinh: _asinh,
    ops.Atan: lambda p, x, _: p.binary("ATAN2", x, p.const(np.ones(x.shape), "FLOAT32")),
    ops.Atanh: _atanh,
    ops.Celu: lambda p, x, op: _exponential(p, x, op.alpha, scale=op.alpha),
    ops.Cosh: lambda p, x, _: _exponentials(p, x, "ADD"),
    ops.Elu: lambda p, x, op: p.unary("ELU", x) if op.alpha == 1 else _exponential(p, x, op.alpha),
    ops.Erf: _erf,
    ops.Gelu: lambda p, x, op: p.unary("GELU", x, Approximate=op.approximate == "tanh"),
    ops.HardSigmoid: _hard_sigmoid,
    ops.HardSwish: lambda p, x, _: p.unary("HARD_SWISH", x),
    ops.LeakyRelu: lambda p, x, op: p.unary("LEAKY_RELU", x, Alpha=op.alpha),
    ops.Mish: _mish,
    ops.Selu: lambda p, x, op: _exponential(p, x, op.alpha, op.gamma),
    ops.Shrink: _shrink,
    ops.Silu: lambda p, x, op: p.binary("MUL", x, p.unary("LOGISTIC", p.times(x, op.alpha))),
    ops.Sinh: lambda p, x, _: _exponentials(p, x, "SUB"),
    ops.Softplus: _softplus,
    ops.Softsign: lambda p, x, _: p.binary("DIV", x, p.plus(p.unary("ABS", x), 1.0)),
    ops.Tan: lambda p, x, _: p.binary("DIV", p.unary("SIN", x), p.unary("COS", x)),
    ops.ThresholdedRelu: _thresholded,
}


@lowers(*FORMULAS, needs=[FLOAT])
def _formula(p: Lowering, node: Node, op: Op) -> None:
    x, order = one(p, node)
    p.finish(node, FORMULAS[type(op)](p, x, op), order)


@lowers(ops.PRelu, needs=[FLOAT])
def _prelu(p: Lowering, node: Node, op: Op) -> None:
    (x, slope), order = together(p, node)
    data = node.inputs[1].data if node.inputs[1] else None
    if data is not None and data.size == 1:
        y = p.unary("LEAKY_RELU", x, Alpha=float(data.reshape(-1)[0]))
    elif len(x.shape) <= 4:
        y = p.add("PRELU", [x, slope], x.dtype, x.shape)
    else:
        y = p.binary("ADD", _positive(p, x), p.binary("MUL", _negative(p, x), slope))
    p.finish(node, y, order)

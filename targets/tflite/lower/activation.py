"""Activation functions and the elementwise functions that no builtin computes directly."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt
from typing import Any

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.target import op_need
from targets.tflite import opset
from targets.tflite.lower.elementwise import one
from targets.tflite.lower.integer import together
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import FLOAT, NUMBER, lowers
from targets.tflite.model import NUMPY, Tensor

FUSED = {(0.0, inf): opset.RELU, (-1.0, 1.0): opset.RELU_N1_TO_1, (0.0, 6.0): opset.RELU6}
CLIPS = {(0.0, inf): "RELU", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 6.0): "RELU6"}


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


def _softplus(p: Lowering, x: Tensor, op: Op) -> Tensor:
    """max(x, 0) + log(1 + exp(-|x|))."""
    tail = p.unary("LOG", p.plus(p.unary("EXP", p.unary("NEG", p.unary("ABS", x))), 1.0))
    return p.binary("ADD", _positive(p, x), tail)


def _hard_sigmoid(p: Lowering, x: Tensor, op: ops.HardSigmoid) -> Tensor:
    """relu6(x + 3) / 6 where that is the same, else the clipped line, without RELU_0_TO_1: XNNPACK does not take it."""
    if abs(op.alpha - 1 / 6) < 1e-7 and op.beta == 0.5:
        return p.times(_bent(p, x, p.plus(x, 3.0), opset.RELU6), 1 / 6)
    line = p.plus(p.times(x, op.alpha), op.beta)
    return p.binary("MINIMUM", _bent(p, x, line, opset.RELU), p.scalar(1.0))


def _bent(p: Lowering, x: Tensor, line: Tensor, activation: int) -> Tensor:
    """An activation of what was just computed from x, fused into it unless it is x itself."""
    if line is not x and p.model.fuse(line, activation, ()):
        return line
    return p.unary({opset.RELU: "RELU", opset.RELU6: "RELU6"}[activation], line)


def _erf(p: Lowering, x: Tensor, op: Op) -> Tensor:
    """2 gelu(y) / y - 1 at y = sqrt(2) x, for gelu(y) = y Phi(y); 0 at 0. Beyond |x| = 5 it is 1 in float32."""
    y = p.times(clipped(p, x, -5.0, 5.0), sqrt(2))
    ratio = p.binary("DIV", p.unary("GELU", y, Approximate=False), y)
    value = p.plus(p.times(ratio, 2.0), -1.0)
    return p.select(p.binary("EQUAL", y, p.scalar(0.0)), p.times(x, 2 / sqrt(np.pi)), value)


def _leg(p: Lowering, x: Tensor) -> Tensor:
    """sqrt((1 - x) (1 + x))."""
    return p.unary("SQRT", p.binary("MUL", p.binary("SUB", p.scalar(1.0), x), p.plus(x, 1.0)))


def _exponentials(p: Lowering, x: Tensor, sign: str) -> Tensor:
    return p.times(p.binary(sign, p.unary("EXP", x), p.unary("EXP", p.unary("NEG", x))), 0.5)


def _atanh(p: Lowering, x: Tensor, op: Op) -> Tensor:
    quotient = p.binary("DIV", p.plus(x, 1.0), p.binary("SUB", p.scalar(1.0), x))
    return p.times(p.unary("LOG", quotient), 0.5)


FORMULAS: dict[type[Op], Formula] = {
    ops.Acos: lambda p, x, _: p.binary("ATAN2", _leg(p, x), x),
    ops.Asin: lambda p, x, _: p.binary("ATAN2", x, _leg(p, x)),
    ops.Atan: lambda p, x, _: p.binary("ATAN2", x, p.const(np.ones(x.shape), "FLOAT32")),
    ops.Atanh: _atanh,
    ops.Cosh: lambda p, x, _: _exponentials(p, x, "ADD"),
    ops.Erf: _erf,
    ops.Gelu: lambda p, x, op: p.unary("GELU", x, Approximate=op.approximate == "tanh"),
    ops.HardSigmoid: _hard_sigmoid,
    ops.HardSwish: lambda p, x, _: p.unary("HARD_SWISH", x),
    ops.LeakyRelu: lambda p, x, op: p.unary("LEAKY_RELU", x, Alpha=op.alpha),
    ops.Sinh: lambda p, x, _: _exponentials(p, x, "SUB"),
    ops.Softplus: _softplus,
    ops.Softsign: lambda p, x, _: p.binary("DIV", x, p.plus(p.unary("ABS", x), 1.0)),
    ops.Tan: lambda p, x, _: p.binary("DIV", p.unary("SIN", x), p.unary("COS", x)),
}


@lowers(*FORMULAS, needs=[FLOAT])
def _formula(p: Lowering, node: Node, op: Op) -> None:
    x, order = one(p, node)
    p.finish(node, FORMULAS[type(op)](p, x, op), order)


@lowers(ops.Elu, needs=[FLOAT, op_need("an alpha of 1", lambda op: op.alpha == 1)])
def _elu(p: Lowering, node: Node, op: Op) -> None:
    x, order = one(p, node)
    p.finish(node, p.unary("ELU", x), order)


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

"""Normalisations and softmax, by the means and variances that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.target import constant_operands, op_need
from targets.coreai.lower.linear import per_channel
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.table import FLOAT, lowers
from targets.coreai.program import Var


@lowers(ops.BatchNorm, needs=[FLOAT, constant_operands(1, 2, 3, 4)])
def _batch_norm(p: Lowering, node: Node, op: ops.BatchNorm) -> None:
    """One factor and one summand for each channel."""
    x = p.operands(node)[0]
    scale, bias, mean, variance = (np.asarray(v.data, np.float64) for v in node.inputs[1:5] if v is not None)
    factor = scale / np.sqrt(variance + op.eps)
    rank = max(len(x.shape), 2)
    y = p.binary("mul", x, per_channel(p, p.floats(factor), rank))
    p.bind(node.output, p.binary("add", y, per_channel(p, p.floats(bias - mean * factor), rank)))


def normalized(p: Lowering, x: Var, axes: Sequence[int], eps: float) -> Var:
    """(x - mean) / sqrt(variance + eps) over axes."""
    centred = p.binary("sub", x, p.reduce("reduce_mean", x, axes))
    variance = p.reduce("reduce_mean", p.binary("mul", centred, centred), axes)
    return p.binary("mul", centred, p.unary("rsqrt", p.binary("add", variance, eps)))


def _scaled(p: Lowering, x: Var, scale: Var, bias: Var) -> Var:
    rank = len(x.shape)
    return p.binary("add", p.binary("mul", x, per_channel(p, scale, rank)), per_channel(p, bias, rank))


@lowers(ops.InstanceNorm, needs=[FLOAT])
def _instance_norm(p: Lowering, node: Node, op: ops.InstanceNorm) -> None:
    x, scale, bias = p.operands(node)
    p.bind(node.output, _scaled(p, normalized(p, x, range(2, len(x.shape)), op.eps), scale, bias))


@lowers(ops.GroupNorm, needs=[FLOAT])
def _group_norm(p: Lowering, node: Node, op: ops.GroupNorm) -> None:
    """Groups in a row of their own are normalised like a layer; scale and bias of each channel follow."""
    x, scale, bias = p.operands(node)
    rows = p.reshape(x, (x.shape[0], op.groups, prod(x.shape[1:]) // op.groups))
    p.bind(node.output, _scaled(p, p.reshape(normalized(p, rows, [2], op.eps), x.shape), scale, bias))


@lowers(ops.LayerNorm, needs=[FLOAT])
def _layer_norm(p: Lowering, node: Node, op: ops.LayerNorm) -> None:
    x, *parameters = p.operands(node)
    axes = op.axes(len(x.shape))
    scale, *bias = [p.reshape(v, (*v.shape, *[1] * (len(x.shape) - 1 - axes[-1]))) for v in parameters]
    y = p.binary("mul", normalized(p, x, axes, op.eps), scale)
    p.bind(node.output, p.binary("add", y, bias[0]) if bias else y)


@lowers(ops.RmsNorm, needs=[FLOAT])
def _rms_norm(p: Lowering, node: Node, op: ops.RmsNorm) -> None:
    x, scale = p.operands(node)
    axes = op.axes(len(x.shape))
    scale = p.reshape(scale, (*scale.shape, *[1] * (len(x.shape) - 1 - axes[-1])))
    mean = p.reduce("reduce_mean", p.binary("mul", x, x), axes)
    factor = p.unary("rsqrt", p.binary("add", mean, op.eps))
    p.bind(node.output, p.binary("mul", p.binary("mul", x, factor), scale))


@lowers(ops.LpNormalize, needs=[FLOAT, op_need("p of 1 or 2", lambda op: op.p in (1, 2))])
def _lp_normalize(p: Lowering, node: Node, op: ops.LpNormalize) -> None:
    (x,) = p.operands(node)
    norm = p.reduce("reduce_sum", p.unary("abs", x) if op.p == 1 else p.binary("mul", x, x), [op.axis])
    smallest = 2.0**-24 if p.precision == "fp16" else 2.0**-126
    norm = norm if op.p == 1 else p.unary("sqrt", norm)
    p.bind(node.output, p.binary("divide", x, p.binary("maximum", norm, max(op.eps, smallest))))


@lowers(ops.Softmax, needs=[FLOAT])
def _softmax(p: Lowering, node: Node, op: ops.Softmax) -> None:
    p.bind(node.output, softmax(p, p.operands(node)[0], op.axis))


def softmax(p: Lowering, x: Var, axis: int) -> Var:
    """The dialect's softmax over one axis."""
    return p.op("softmax", [x, p.axis(axis)], x.dtype, x.shape)


@lowers(ops.LogSoftmax, needs=[FLOAT])
def _log_softmax(p: Lowering, node: Node, op: ops.LogSoftmax) -> None:
    """x - max(x) - log(sum(exp(x - max(x))))."""
    (x,) = p.operands(node)
    shifted = p.binary("sub", x, p.reduce("reduce_max", x, [op.axis]))
    total = p.reduce("reduce_sum", p.unary("exp", shifted), [op.axis])
    p.bind(node.output, p.binary("sub", shifted, p.unary("log", total)))

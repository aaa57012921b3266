"""Normalisations and softmax."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node
from targets.coreml.lower.table import FLOAT, Lowering, constant_operands, lowers, op_need
from targets.coreml.mil import Var


@lowers(ops.BatchNorm, needs=[FLOAT, constant_operands(1, 2, 3, 4)])
def _batch_norm(p: Lowering, node: Node, op: ops.BatchNorm) -> None:
    """`batch_norm` takes rank 3 to 5; other ranks get the scale and shift it amounts to."""
    x, scale, bias, mean, variance = p.operands(node)
    if 3 <= len(x.shape) <= 5:
        p.emit(node, "batch_norm", x=x, mean=mean, variance=variance, gamma=scale, beta=bias, epsilon=op.eps)
        return
    g, b, m, v = (np.asarray(c.data, np.float64) for c in node.inputs[1:] if c is not None)
    k = g / np.sqrt(v + op.eps)
    shape = (-1, *[1] * (len(x.shape) - 2)) if len(x.shape) > 1 else (-1,)
    y = p.like(x, "mul", y=_weight(p, k.reshape(shape)))
    p.emit(node, "add", x=y, y=_weight(p, (b - m * k).reshape(shape)))


def _weight(p: Lowering, data: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Var:
    return p.program.const(data.astype(np.float32), p.precision)


@lowers(ops.InstanceNorm, needs=[FLOAT, constant_operands(1, 2)])
def _instance_norm(p: Lowering, node: Node, op: ops.InstanceNorm) -> None:
    x, scale, bias = p.operands(node)
    flat = p.reshape(x, (*x.shape[:2], int(np.prod(x.shape[2:])))) if len(x.shape) == 5 else x
    y = p.like(flat, "instance_norm", gamma=scale, beta=bias, epsilon=op.eps)
    p.bind(node.output, p.reshape(y, x.shape))


@lowers(ops.GroupNorm, needs=[FLOAT])
def _group_norm(p: Lowering, node: Node, op: ops.GroupNorm) -> None:
    """Groups in a row of their own are normalised like a layer; scale and bias of each channel follow."""
    x, scale, bias = p.operands(node)
    rows = p.reshape(x, (x.shape[0], op.groups, int(np.prod(x.shape[1:])) // op.groups))
    y = p.reshape(p.like(rows, "layer_norm", axes=[2], epsilon=op.eps), x.shape)
    channel = (1, x.shape[1], *[1] * (len(x.shape) - 2))
    y = p.like(y, "mul", y=p.reshape(scale, channel))
    p.emit(node, "add", x=y, y=p.reshape(bias, channel))


@lowers(ops.LayerNorm, needs=[FLOAT])
def _layer_norm(p: Lowering, node: Node, op: ops.LayerNorm) -> None:
    x, scale, *bias = p.operands(node)
    axes = list(range(op.axis, len(x.shape)))
    fits = scale.shape == x.shape[op.axis :] and (not bias or bias[0].shape == scale.shape)
    if fits and scale.value is not None and (not bias or bias[0].value is not None):
        p.emit(node, "layer_norm", x=x, axes=axes, gamma=scale, beta=bias[0] if bias else None, epsilon=op.eps)
        return
    y = p.like(p.like(x, "layer_norm", axes=axes, epsilon=op.eps), "mul", y=scale)
    p.bind(node.output, p.like(y, "add", y=bias[0]) if bias else y)


@lowers(ops.RmsNorm, needs=[FLOAT])
def _rms_norm(p: Lowering, node: Node, op: ops.RmsNorm) -> None:
    x, scale = p.operands(node)
    axes = list(range(op.axis, len(x.shape)))
    shape = (*x.shape[: op.axis], *[1] * len(axes))
    mean = p.add("reduce_mean", {"x": p.like(x, "square"), "axes": axes, "keep_dims": True}, x.dtype, shape)
    p.emit(node, "mul", x=p.like(x, "mul", y=p.like(mean, "rsqrt", epsilon=op.eps)), y=scale)


@lowers(ops.LocalResponseNorm, needs=[FLOAT])
def _local_response_norm(p: Lowering, node: Node, op: ops.LocalResponseNorm) -> None:
    p.emit(node, "local_response_norm", x=p.operands(node)[0], size=op.size, alpha=op.alpha, beta=op.beta, k=op.bias)


@lowers(ops.LpNormalize, needs=[FLOAT, op_need("p of 1 or 2", lambda op: op.p in (1, 2))])
def _lp_normalize(p: Lowering, node: Node, op: ops.LpNormalize) -> None:
    (x,) = p.operands(node)
    shape = tuple(1 if i == op.axis else d for i, d in enumerate(x.shape))
    kind = f"reduce_l{op.p}_norm"
    norm = p.add(kind, {"x": x, "axes": [op.axis], "keep_dims": True}, x.dtype, shape)
    smallest = 2.0**-24 if p.precision == "fp16" else 2.0**-126
    p.emit(node, "real_div", x=x, y=p.like(norm, "maximum", y=max(op.eps, smallest)))


@lowers(ops.Softmax, needs=[FLOAT])
def _softmax(p: Lowering, node: Node, op: ops.Softmax) -> None:
    p.emit(node, "softmax", x=p.operands(node)[0], axis=op.axis)


@lowers(ops.LogSoftmax, needs=[FLOAT])
def _log_softmax(p: Lowering, node: Node, op: ops.LogSoftmax) -> None:
    """x - max(x) - log(sum(exp(x - max(x))))."""
    (x,) = p.operands(node)
    shape = tuple(1 if i == op.axis else d for i, d in enumerate(x.shape))
    largest = p.add("reduce_max", {"x": x, "axes": [op.axis], "keep_dims": True}, x.dtype, shape)
    shifted = p.like(x, "sub", y=largest)
    total = p.add("reduce_sum", {"x": p.like(shifted, "exp"), "axes": [op.axis], "keep_dims": True}, x.dtype, shape)
    p.emit(node, "sub", x=shifted, y=p.like(total, "log", epsilon=0.0))

"""Reductions, normalisations and softmax."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.op import Op
from compiler.ops.layout import Order, channels_last
from compiler.ops.reduce import Reduce
from compiler.tensor import BOOL
from targets.tflite.lower.elementwise import magnitude, one, truncated_quotient
from targets.tflite.lower.lowering import Lowering, restricted
from targets.tflite.lower.table import (
    DIVISIBLE,
    FLOAT,
    FLOATS,
    INTS,
    NUMBER,
    lowers,
    op_need,
    operand_types,
)
from targets.tflite.model import Tensor

TINY = 2.0**-126  # the smallest normal float32
EXTREMES: dict[type[Op], tuple[str, str]] = {
    ops.ReduceMax: ("REDUCE_MAX", "REDUCE_ANY"),
    ops.ReduceMin: ("REDUCE_MIN", "REDUCE_ALL"),
}
SUMS: tuple[type[Op], ...] = (
    ops.ReduceSum, ops.ReduceProd, ops.ReduceL1, ops.ReduceL2, ops.ReduceSumSquare, ops.ReduceLogSum,
    ops.ReduceLogSumExp,
)  # fmt: skip


@lowers(*SUMS, needs=[NUMBER])
@lowers(ops.ReduceMean, needs=[DIVISIBLE])
@lowers(*EXTREMES, needs=[operand_types(*FLOATS, *INTS, BOOL)])
def _reduce(p: Lowering, node: Node, op: Reduce) -> None:
    (v,) = node.inputs
    assert v is not None
    layout = node.output.type.layout if op.keepdims else None
    order = layout.order if layout is not None else p.order(v)
    axes = [order.index(a) for a in op.axes]
    y = _reduced(p, p.get(v, order), op, axes, op.keepdims)
    kept = order if op.keepdims else restricted(order, [a for a in range(v.type.rank) if a not in op.axes])
    p.finish(node, y, kept)


def _reduced(p: Lowering, x: Tensor, op: Op, axes: list[int], keep: bool) -> Tensor:
    if type(op) in EXTREMES:
        return p.reduce(EXTREMES[type(op)][x.dtype == "BOOL"], x, axes, keep)
    if isinstance(op, ops.ReduceMean):
        return _mean(p, x, axes, keep)
    if isinstance(op, ops.ReduceProd):
        return p.reduce("REDUCE_PROD", x, axes, keep)
    if isinstance(op, ops.ReduceLogSumExp):
        return _log_sum_exp(p, x, axes, keep)
    if isinstance(op, ops.ReduceL1):
        x = magnitude(p, x)
    elif isinstance(op, ops.ReduceL2 | ops.ReduceSumSquare):
        x = p.unary("SQUARE", x) if x.dtype == "FLOAT32" else p.binary("MUL", x, x)
    total = p.reduce("SUM", x, axes, keep)
    if isinstance(op, ops.ReduceL2):
        return p.cast(p.unary("SQRT", p.cast(total, "FLOAT32")), x.dtype)
    return p.unary("LOG", total) if isinstance(op, ops.ReduceLogSum) else total


def _mean(p: Lowering, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """That of integers is cut towards zero."""
    if x.dtype == "FLOAT32":
        return p.reduce("MEAN", x, axes, keep)
    count = int(np.prod([x.shape[a] for a in axes]))
    return truncated_quotient(p, p.reduce("SUM", x, axes, keep), p.scalar(count, x.dtype))


def _log_sum_exp(p: Lowering, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """log(sum(exp(x - max))) + max, with a finite stand-in for an infinite max."""
    top = p.reduce("REDUCE_MAX", x, axes)
    top = p.select(p.binary("LESS", p.unary("ABS", top), p.scalar(np.inf)), top, p.scalar(0.0))
    total = p.reduce("SUM", p.unary("EXP", p.binary("SUB", x, top)), axes)
    y = p.binary("ADD", p.unary("LOG", total), top)
    return y if keep else p.reshape(y, [d for i, d in enumerate(x.shape) if i not in axes])


def _channel(p: Lowering, v: Value, order: Order) -> Tensor:
    """A vector [C] that is broadcast along the channels of [N,C,*S]."""
    return p.reshape(p.get(v), [v.type.size if a == 1 else 1 for a in order])


def _scaled(p: Lowering, x: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    y = p.binary("MUL", x, scale)
    return y if bias is None else p.binary("ADD", y, bias)


@lowers(ops.BatchNorm, needs=[FLOAT])
def _batch_norm(p: Lowering, node: Node, op: ops.BatchNorm) -> None:
    """The scale and shift it amounts to, where its parameters are constants."""
    x, order = one(p, node)
    if any(c is not None and c.data is None for c in node.inputs[1:]):
        scale, bias, mean, variance = (_channel(p, c, order) for c in node.inputs[1:] if c is not None)
        centred = p.binary("MUL", p.binary("SUB", x, mean), p.unary("RSQRT", p.plus(variance, op.eps)))
        p.finish(node, _scaled(p, centred, scale, bias), order)
        return
    g, b, m, v = (np.asarray(c.data, np.float64) for c in node.inputs[1:] if c is not None)
    factor = g / np.sqrt(v + op.eps)
    shape = [len(g) if a == 1 else 1 for a in order]
    scale, shift = (p.const(t.reshape(shape), "FLOAT32") for t in (factor, b - m * factor))
    p.finish(node, _scaled(p, x, scale, shift), order)


def standardized(p: Lowering, x: Tensor, axes: list[int], eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) along physical axes."""
    centred = p.binary("SUB", x, p.reduce("MEAN", x, axes))
    return _over_rms(p, centred, axes, eps)


def _over_rms(p: Lowering, x: Tensor, axes: list[int], eps: float) -> Tensor:
    variance = p.reduce("MEAN", p.unary("SQUARE", x), axes)
    return p.binary("MUL", x, p.unary("RSQRT", p.plus(variance, eps)))


@lowers(ops.InstanceNorm, needs=[FLOAT])
def _instance_norm(p: Lowering, node: Node, op: ops.InstanceNorm) -> None:
    x, order = one(p, node)
    _, scale, bias = node.inputs
    assert scale is not None and bias is not None
    y = standardized(p, x, [i for i, a in enumerate(order) if a > 1], op.eps)
    p.finish(node, _scaled(p, y, _channel(p, scale, order), _channel(p, bias, order)), order)


@lowers(ops.GroupNorm, needs=[FLOAT])
def _group_norm(p: Lowering, node: Node, op: ops.GroupNorm) -> None:
    """Groups of channels are an axis of their own: [N,S,G,C/G] channels last, [N,G,C/G*S] else."""
    v, scale, bias = node.inputs
    assert v is not None and scale is not None and bias is not None
    order = p.result_order(node)
    x = p.get(v, order)
    n, c = v.type.dims[:2]
    shape: tuple[int, ...]
    if order == channels_last(len(order)):
        shape, axes = (n, v.type.size // (n * c), op.groups, c // op.groups), [1, 3]
    else:
        order = tuple(range(len(order)))
        x = p.get(v)
        shape, axes = (n, op.groups, v.type.size // (n * op.groups)), [2]
    y = p.reshape(standardized(p, p.reshape(x, shape), axes, op.eps), x.shape)
    p.finish(node, _scaled(p, y, _channel(p, scale, order), _channel(p, bias, order)), order)


@lowers(ops.LayerNorm, ops.RmsNorm, needs=[FLOAT])
def _layer_norm(p: Lowering, node: Node, op: ops.LayerNorm | ops.RmsNorm) -> None:
    x, order = one(p, node)
    scale, *bias = node.inputs[1:]
    assert scale is not None
    axes = [i for i, a in enumerate(order) if a >= op.axis]
    normal = standardized if isinstance(op, ops.LayerNorm) else _over_rms
    shift = p.aligned(bias[0], order) if bias and bias[0] is not None else None
    p.finish(node, _scaled(p, normal(p, x, axes, op.eps), p.aligned(scale, order), shift), order)


def _behind(p: Lowering, node: Node, axis: int) -> tuple[Tensor, Order]:
    """The operand in an order that has `axis` behind."""
    (v,) = node.inputs
    assert v is not None
    order = p.result_order(node)
    if order[-1] != axis:
        order = (*(a for a in order if a != axis), axis)
    return p.get(v, order), order


@lowers(ops.Softmax, ops.LogSoftmax, needs=[FLOAT])
def _softmax(p: Lowering, node: Node, op: ops.Softmax | ops.LogSoftmax) -> None:
    x, order = _behind(p, node, op.axis)
    y = p.unary("SOFTMAX", x, Beta=1.0) if isinstance(op, ops.Softmax) else p.unary("LOG_SOFTMAX", x)
    p.finish(node, y, order)


@lowers(ops.LpNormalize, needs=[FLOAT])
def _lp_normalize(p: Lowering, node: Node, op: ops.LpNormalize) -> None:
    x, order = one(p, node)
    axes = [order.index(op.axis)]
    if op.p == 1:
        norm = p.reduce("SUM", p.unary("ABS", x), axes)
    else:
        norm = p.unary("SQRT", p.reduce("SUM", p.unary("SQUARE", x), axes))
    p.finish(node, p.binary("DIV", x, p.binary("MAXIMUM", norm, p.scalar(max(op.eps, TINY)))), order)


@lowers(ops.LocalResponseNorm, needs=[FLOAT, op_need("a size of at least 1", lambda op: op.size >= 1)])
def _local_response_norm(p: Lowering, node: Node, op: ops.LocalResponseNorm) -> None:
    """The builtin's window is symmetric; one of an even size is summed channel by channel."""
    (v,) = node.inputs
    assert v is not None
    order = channels_last(v.type.rank)
    x, before = p.get(v, order), (op.size - 1) // 2
    if op.size % 2 and len(x.shape) == 4:
        options = {"Radius": before, "Bias": op.bias, "Alpha": op.alpha / op.size, "Beta": op.beta}
        p.finish(node, p.unary("LOCAL_RESPONSE_NORMALIZATION", x, **options), order)
        return
    zeros, channels = [0] * (len(x.shape) - 1), x.shape[-1]
    wide = p.pad(p.unary("SQUARE", x), (*zeros, before), (*zeros, op.size - 1 - before))
    total = p.part(wide, -1, 0, channels)
    for i in range(1, op.size):
        total = p.binary("ADD", total, p.part(wide, -1, i, i + channels))
    scale = p.plus(p.times(total, op.alpha / op.size), op.bias)
    p.finish(node, p.binary("MUL", x, p.binary("POW", scale, p.scalar(-op.beta))), order)

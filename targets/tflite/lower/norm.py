"""Reductions, normalisations and softmax."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.op import Op
from compiler.ops.layout import Order, channels_last
from compiler.ops.reduce import Reduce
from compiler.target import constant_operands, op_need
from compiler.tensor import BOOL
from targets.tflite.lower.conv import POINT, convolved
from targets.tflite.lower.elementwise import one
from targets.tflite.lower.integer import ordered
from targets.tflite.lower.lowering import MOST_AXES, Lowering, restricted
from targets.tflite.lower.table import FLOAT, FLOATS, INTEGER, RING, lowers, operand_types
from targets.tflite.model import Tensor

TINY = 2.0**-126  # the smallest normal float32
DENSE_MEAN_FROM = 512  # elements of a row whose mean plus a number is one dense layer, 1 % slower in all, and not two
EXTREMES: dict[type[Op], tuple[str, str]] = {
    ops.ReduceMax: ("REDUCE_MAX", "REDUCE_ANY"),
    ops.ReduceMin: ("REDUCE_MIN", "REDUCE_ALL"),
}
SUMS: dict[type[Op], str] = {ops.ReduceSum: "SUM", ops.ReduceProd: "REDUCE_PROD", ops.ReduceMean: "MEAN"}


@lowers(ops.ReduceSum, ops.ReduceProd, needs=[RING])
@lowers(ops.ReduceMean, needs=[FLOAT])
@lowers(*EXTREMES, needs=[operand_types(*FLOATS, *INTEGER, BOOL)])
def _reduce(p: Lowering, node: Node, op: Reduce) -> None:
    (v,) = node.inputs
    assert v is not None
    layout = node.output.type.layout if op.keepdims else None
    order = layout.order if layout is not None else p.order(v)
    axes = [order.index(a) for a in op.axes]
    dtype = v.type.dtype if type(op) in EXTREMES else BOOL  # of sums, order does not matter
    y = ordered(p, _reduced(p, ordered(p, p.get(v, order), dtype), op, axes, op.keepdims), dtype)
    kept = order if op.keepdims else restricted(order, [a for a in range(v.type.rank) if a not in op.axes])
    p.finish(node, y, kept)


def _reduced(p: Lowering, x: Tensor, op: Op, axes: list[int], keep: bool) -> Tensor:
    code = EXTREMES[type(op)][x.dtype == "BOOL"] if type(op) in EXTREMES else SUMS[type(op)]
    return p.reduce(code, x, axes, keep)


def _channel(p: Lowering, v: Value, order: Order) -> Tensor:
    """A vector [C] that is broadcast along the channels of [N,C,*S]."""
    return p.reshape(p.get(v), [v.type.size if a == 1 else 1 for a in order])


def _scaled(p: Lowering, x: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    y = p.binary("MUL", x, scale)
    return y if bias is None else p.binary("ADD", y, bias)


@lowers(ops.BatchNorm, needs=[FLOAT, constant_operands(1, 2, 3, 4)])
def _batch_norm(p: Lowering, node: Node, op: ops.BatchNorm) -> None:
    """The scale and shift it amounts to. Of an image [N,H,W,C] that is one pass
    over memory, activation included: a depthwise convolution of 1x1."""
    x, order = one(p, node)
    g, b, m, v = (np.asarray(c.data, np.float64) for c in node.inputs[1:] if c is not None)
    factor = g / np.sqrt(v + op.eps)
    if order == channels_last(4):
        scale, shift = p.const(factor.reshape(1, 1, 1, -1), "FLOAT32"), p.const(b - m * factor, "FLOAT32")
        p.finish(node, convolved(p, x, scale, shift, POINT, depthwise=True), order)
        return
    shape = [len(g) if a == 1 else 1 for a in order]
    scale, shift = (p.const(t.reshape(shape), "FLOAT32") for t in (factor, b - m * factor))
    p.finish(node, _scaled(p, x, scale, shift), order)


def standardized(p: Lowering, x: Tensor, axes: list[int], eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) along physical axes."""
    centred = p.binary("SUB", x, p.reduce("MEAN", x, axes))
    return _over_rms(p, centred, axes, eps)


def _over_rms(p: Lowering, x: Tensor, axes: list[int], eps: float) -> Tensor:
    square, width = p.unary("SQUARE", x), x.shape[-1]
    if axes == [len(x.shape) - 1] and width >= DENSE_MEAN_FROM and eps:
        mean = p.shared(("mean", width), lambda: p.model.constant(np.full((1, width), 1 / width, np.float32), "mean"))
        variance = p.fully_connected(square, mean, p.const([eps], "FLOAT32"))
    else:
        variance = p.plus(p.reduce("MEAN", square, axes), eps)
    return p.binary("MUL", x, p.unary("RSQRT", variance))


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


TRAILING = op_need("statistics over the last axes", lambda op: not op.count)


@lowers(ops.LayerNorm, ops.RmsNorm, needs=[FLOAT, TRAILING])
def _layer_norm(p: Lowering, node: Node, op: ops.LayerNorm | ops.RmsNorm) -> None:
    x, order = one(p, node)
    scale, *bias = node.inputs[1:]
    assert scale is not None
    axes = [i for i, a in enumerate(order) if a >= op.axis]
    normal = standardized if isinstance(op, ops.LayerNorm) else _over_rms
    y = normal(p, x, axes, op.eps)
    if scale.data is None or bool((scale.data != 1).any()):
        y = p.binary("MUL", y, p.aligned(scale, order))
    if bias and bias[0] is not None:
        y = p.binary("ADD", y, p.aligned(bias[0], order))
    p.finish(node, y, order)


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
    rows = p.reshape(x, (prod(x.shape[:-1]), x.shape[-1])) if len(x.shape) > MOST_AXES else x
    y = p.unary("SOFTMAX", rows, Beta=1.0) if isinstance(op, ops.Softmax) else p.unary("LOG_SOFTMAX", rows)
    p.finish(node, p.reshape(y, x.shape), order)


@lowers(ops.LpNormalize, needs=[FLOAT])
def _lp_normalize(p: Lowering, node: Node, op: ops.LpNormalize) -> None:
    x, order = one(p, node)
    axes = [order.index(op.axis)]
    if op.p == 1:
        norm = p.reduce("SUM", p.unary("ABS", x), axes)
    else:
        norm = p.unary("SQRT", p.reduce("SUM", p.unary("SQUARE", x), axes))
    p.finish(node, p.binary("DIV", x, p.binary("MAXIMUM", norm, p.scalar(max(op.eps, TINY)))), order)

"""Normalisations in forms that no operation has: flattened softmax, statistics as results, per-group scales."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from compiler.errors import OnnxError
from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.importers.shape import operand
from compiler.op import OnnxNode, expect, normalize_axis
from compiler.ops.elementwise import Add, Cast, Div, Mul, Reciprocal, Sqrt, Sub
from compiler.ops.norm import BatchNorm, GroupNorm, LayerNorm
from compiler.ops.reduce import ReduceMean
from compiler.ops.shape import Expand, Reshape
from compiler.ops.softmax import AxisWise, Hardmax, LogSoftmax, Softmax
from compiler.tensor import F32, DType

AXIS_WISE: dict[str, type[AxisWise]] = {"Softmax": Softmax, "LogSoftmax": LogSoftmax, "Hardmax": Hardmax}


@importer(*AXIS_WISE)
def softmax(node: OnnxNode, b: LayerBuilder) -> Value:
    """Along one axis; before opset 13 over all axes from `axis` on, flattened where more than one is not 1."""
    x = operand(node)
    cls = AXIS_WISE[node.op_type]
    axis = node.attr("axis", 1 if node.version < 13 else -1)
    if node.version < 13 and axis == x.type.rank:
        axis, x = -1, b.add(Reshape(shape=(*x.type.shape, 1)), x)
    axis = normalize_axis(axis, x.type.rank)
    if node.version >= 13:
        return b.add(cls(axis=axis), x)
    wide = [i for i in range(axis, x.type.rank) if x.type.shape[i] != 1]
    if len(wide) <= 1:
        y = b.add(cls(axis=wide[0] if wide else axis), x)
    else:
        flat = (*x.type.shape[:axis], prod(x.type.with_shape(x.type.shape[axis:]).dims))
        y = b.add(cls(axis=axis), b.add(Reshape(shape=flat), x))
    shape = operand(node).type.shape
    return y if y.type.shape == shape else b.add(Reshape(shape=shape), y)


@importer("BatchNormalization")
def batch_normalization(node: OnnxNode, b: LayerBuilder) -> Value | Sequence[Value]:
    """With the given statistics, or, in training mode (opset 14), with those of the batch, which are results too."""
    if node.version < 14 and (node.n_outputs > 1 or not node.attr("spatial", 1)):
        raise OnnxError("training or non-spatial batch normalization is not supported; export the model for inference")
    x, scale, bias, mean, var = (operand(node, i) for i in range(5))
    op = BatchNorm.from_onnx(node)
    if not node.attr("training_mode", 0):
        return b.add(op, x, scale, bias, mean, var)
    axes = tuple(i for i in range(x.type.rank) if i != 1)
    now_mean = b.add(ReduceMean(axes=axes), x)
    centred = b.add(Sub(), x, now_mean)
    now_var = b.add(ReduceMean(axes=axes), b.add(Mul(), centred, centred))
    now_mean, now_var = (b.add(Reshape(shape=x.type.shape[1:2]), v) for v in (now_mean, now_var))
    momentum = node.attr("momentum", 0.9)
    running = [_blend(b, old, new, momentum) for old, new in ((mean, now_mean), (var, now_var))]
    return b.add(op, x, scale, bias, now_mean, now_var), *running


def _blend(b: LayerBuilder, old: Value, new: Value, momentum: float) -> Value:
    kept = b.add(Mul(), old, b.const(momentum, like=old))
    new = _cast(b, new, old.type.dtype)
    return b.add(Add(), kept, b.add(Mul(), new, b.const(1 - momentum, like=old)))


def _cast(b: LayerBuilder, v: Value, dtype: DType) -> Value:
    return v if v.type.dtype is dtype else b.add(Cast(to=dtype.name), v)


@importer("GroupNormalization")
def group_normalization(node: OnnxNode, b: LayerBuilder) -> Value:
    """Before opset 21, scale and bias have one number per group; they are repeated for its channels."""
    x, scale, bias = (operand(node, i) for i in range(3))
    op = GroupNorm.from_onnx(node)
    channels = x.type.shape[1]
    if node.version >= 21:
        return b.add(op, x, scale, bias)
    expect(isinstance(channels, int) and channels % op.groups == 0, f"{x.type} does not split into {op.groups} groups")
    assert isinstance(channels, int)
    return b.add(op, x, *(_repeated(b, v, op.groups, channels) for v in (scale, bias)))


def _repeated(b: LayerBuilder, v: Value, groups: int, channels: int) -> Value:
    expect(v.type.shape == (groups,), f"needs one number per group, got {v.type}")
    column = b.add(Reshape(shape=(groups, 1)), v)
    return b.add(Reshape(shape=(channels,)), b.add(Expand(shape=(groups, channels // groups)), column))


@importer("LayerNormalization")
def layer_normalization(node: OnnxNode, b: LayerBuilder) -> Value | Sequence[Value]:
    """The mean and the inverse standard deviation, where asked for, are computed beside the layer."""
    x = operand(node)
    op = LayerNorm.from_onnx(node)
    y = b.add(op, x, operand(node, 1), operand(node, 2) if node.has(2) else None)
    if node.n_outputs == 1:
        return y
    axes = tuple(range(op.axis, x.type.rank))
    wide = _cast(b, x, F32) if node.attr("stash_type", 1) == 1 else x
    mean = b.add(ReduceMean(axes=axes), wide)
    centred = b.add(Sub(), wide, mean)
    variance = b.add(ReduceMean(axes=axes), b.add(Mul(), centred, centred))
    root = b.add(Sqrt(), b.add(Add(), variance, b.const(op.eps, like=variance)))
    return y, mean, b.add(Reciprocal(), root)


@importer("MeanVarianceNormalization")
def mean_variance_normalization(node: OnnxNode, b: LayerBuilder) -> Value:
    """(x - mean) / (standard deviation + 1e-9)."""
    x = operand(node)
    axes = tuple(sorted({normalize_axis(a, x.type.rank) for a in node.ints("axes", None, (0, 2, 3))}))
    centred = b.add(Sub(), x, b.add(ReduceMean(axes=axes), x))
    deviation = b.add(Sqrt(), b.add(ReduceMean(axes=axes), b.add(Mul(), centred, centred)))
    return b.add(Div(), centred, b.add(Add(), deviation, b.const(1e-9, like=x)))

"""Convolutions and pools in TensorFlow, on images with their channels last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from compiler import ops
from compiler.graph import Node
from compiler.ops.window import slide_all
from compiler.tensor import TensorType
from compiler.train.lower import Held, Tensor, is_float, lowers

DATA_FORMATS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


def _has_space(node: Node) -> bool:
    """Whether images have one to three spatial axes, and one result."""
    return is_float(node) and 3 <= node.outputs[0].type.rank <= 5 and len(node.outputs) == 1


def _spread(w: Tensor, dilations: Sequence[int]) -> Tensor:
    """A kernel [*K,...] with zeros between its elements."""
    for axis, d in enumerate(dilations):
        if d > 1:
            length = w.shape[axis]
            zeros = [(0, 0)] * (len(w.shape) + 1)
            zeros[axis + 1] = (0, d - 1)
            shape = (*w.shape[:axis], length * d, *w.shape[axis + 1 :])
            w = tf.reshape(tf.pad(tf.expand_dims(w, axis + 1), zeros), shape)
            w = tf.gather(w, range((length - 1) * d + 1), axis=axis)
    return w


def _padded(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    n = len(pads) // 2
    if not any(pads):
        return x
    return tf.pad(x, [(0, 0), *zip(pads[:n], pads[n:], strict=True), (0, 0)], constant_values=tf.cast(value, x.dtype))


def _convolved(x: Tensor, w: Tensor, op: ops.Conv) -> Tensor:
    """x [B,*S,C] and w [M,C/groups,*K] give [B,*S',M]."""
    n, many = len(op.strides), w.shape[0] // op.groups
    perm = tuple(range(2, 2 + n))
    if n == 2 and w.shape[1] == 1 and op.groups > 1 and op.strides[0] == op.strides[1]:
        filters = tf.transpose(tf.reshape(w, (op.groups, many, *w.shape[2:])), (2, 3, 0, 1))
        return tf.nn.depthwise_conv2d(x, _spread(filters, op.dilations), (1, *op.strides, 1), "VALID")
    filters = _spread(tf.transpose(w, (*perm, 1, 0)), op.dilations)
    if op.groups == 1:
        return _slid(x, filters, op.strides)
    parts = zip(tf.split(x, op.groups, -1), tf.split(filters, op.groups, -1), strict=True)
    return tf.concat([_slid(part, f, op.strides) for part, f in parts], -1)


def _slid(x: Tensor, filters: Tensor, strides: Sequence[int]) -> Tensor:
    return tf.nn.convolution(x, filters, strides, "VALID", DATA_FORMATS[len(strides)])


@lowers(ops.Conv, holds=_has_space, fixed=(1, 2))
def _conv(op: ops.Conv, out: TensorType, x: Held, w: Held, b: Held | None = None) -> Held:
    y = _convolved(_padded(x.last, op.pads), w.single, op)
    return Held(out, last=y if b is None else y + b.single)


@lowers(ops.ConvTranspose, holds=_has_space, fixed=(1, 2))
def _conv_transpose(op: ops.ConvTranspose, out: TensorType, x: Held, w: Held, b: Held | None = None) -> Held:
    n, g = len(op.strides), op.groups
    filters = _spread(tf.transpose(w.single, (*range(2, 2 + n), 1, 0)), op.dilations)
    full = [(d - 1) * s + k for d, s, k in zip(x.type.dims[2:], op.strides, filters.shape, strict=False)]
    shape = (tf.shape(x.last)[0], *full, filters.shape[-2])
    parts = zip(tf.split(x.last, g, -1), tf.split(filters, g, -1), strict=True)
    y = tf.concat([tf.nn.conv_transpose(p, f, tf.stack(shape), op.strides, "VALID") for p, f in parts], -1)
    y = _padded(y, (*[0] * n, *op.output_padding))
    ends = [d + e - op.pads[n + i] for i, (d, e) in enumerate(zip(full, op.output_padding, strict=True))]
    y = y[(slice(None), *(slice(op.pads[i], end) for i, end in enumerate(ends)))]
    return Held(out, last=y if b is None else y + b.single)


def _pool(kind: str, value: float, op: ops.MaxPool | ops.AveragePool, out: TensorType, x: Held) -> Tensor:
    n, spatial = len(op.kernel), x.type.dims[2:]
    ends = []
    for i in range(n):
        reach = (out.dims[2 + i] - 1) * op.strides[i] + (op.kernel[i] - 1) * op.dilations[i] + 1
        ends.append(max(reach - op.pads[i] - spatial[i], 0))
    y = _padded(x.last, (*op.pads[:n], *ends), value)
    where = tuple(slice(0, spatial[i] + op.pads[i] + ends[i]) for i in range(n))
    return _pooled(y[(slice(None), *where)], kind, op)


def _pooled(x: Tensor, kind: str, op: ops.MaxPool | ops.AveragePool) -> Tensor:
    """Windows of a padded image. TensorFlow has no pool with dilations and strides at once, nor with strides beyond the
    window: then all windows are pooled, of which every stride-th is taken."""
    if max(op.dilations) == 1 and all(s <= k for s, k in zip(op.strides, op.kernel, strict=True)):
        return tf.nn.pool(x, op.kernel, kind, op.strides, "VALID")
    y = tf.nn.pool(x, op.kernel, kind, padding="VALID", dilations=op.dilations)
    return y[(slice(None), *(slice(None, None, s) for s in op.strides))]


def _gives_values(node: Node) -> bool:
    return _has_space(node) and not getattr(node.op, "indices", False)


@lowers(ops.MaxPool, holds=_gives_values)
def _max_pool(op: ops.MaxPool, out: TensorType, x: Held) -> Held:
    return Held(out, last=_pool("MAX", x.type.dtype.numpy.type(-3e38), op, out, x))


@lowers(ops.AveragePool, holds=_has_space)
def _average_pool(op: ops.AveragePool, out: TensorType, x: Held) -> Held:
    spatial = x.type.dims[2:]
    steps = slide_all(spatial, op.kernel, op.strides, op.pads, op.dilations, op.ceil_mode)
    counts = np.ones(())
    for along in op.counts(spatial, steps):  # type: ignore[arg-type]  # numbers in, numbers out
        counts = counts[..., None] * along
    factor = (np.prod(op.kernel) / counts)[..., None].astype(x.type.dtype.numpy)
    return Held(out, last=_pool("AVG", 0.0, op, out, x) * factor)

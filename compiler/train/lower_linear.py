"""Products of matrices, attention, reductions and normalisations in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import tensorflow as tf

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.norm import TrailingNorm
from compiler.ops.reduce import Reduce
from compiler.tensor import TensorType
from compiler.train.lower import LOWERED, Held, Lowering, Tensor, after_runs, is_float, lowers

FAR = -1e9  # a score that no softmax sees


@lowers(ops.Dense, fixed=(1, 2))
def _dense(op: ops.Dense, out: TensorType, x: Held, w: Held, b: Held | None = None) -> Tensor:
    rows = tf.reshape(x.plain, (-1, x.type.dims[-1]))
    y = tf.matmul(rows, w.single, transpose_b=op.transposed)
    return tf.reshape(y if b is None else y + b.single, (-1, *out.dims))


@lowers(ops.MatMul)
def _matmul(op: ops.MatMul, out: TensorType, x: Held, y: Held) -> Tensor:
    left = x.plain[..., None, :] if x.type.rank == 1 else x.plain
    if y.type.rank == 2 and not y.varies:
        return tf.reshape(tf.matmul(tf.reshape(left, (-1, left.shape[-1])), y.single), (-1, *out.dims))
    right = y.plain[..., None] if y.type.rank == 1 else y.plain
    rank = max(len(left.shape), len(right.shape))
    return tf.reshape(_product(_as_rank(left, rank), _as_rank(right, rank)), (-1, *out.dims))


def _as_rank(x: Tensor, rank: int) -> Tensor:
    missing = rank - len(x.shape)
    return tf.reshape(x, (-1, *[1] * missing, *x.shape[1:])) if missing else x


def _product(x: Tensor, y: Tensor) -> Tensor:
    """Products [B,M,N] of matrices of one rank, all leading axes joined: TensorFlow 2.21 with oneDNN computes wrong
    numbers, or crashes, where axes are broadcast in products of rank 5."""
    lead = tf.broadcast_dynamic_shape(tf.shape(x)[:-2], tf.shape(y)[:-2])
    x, y = (tf.reshape(tf.broadcast_to(v, tf.concat([lead, v.shape[-2:]], 0)), (-1, *v.shape[-2:])) for v in (x, y))
    return tf.matmul(x, y)


def _is_attention(node: Node) -> bool:
    return all(v is None or i == 3 or v.type.dtype.name in ("f32", "f64") for i, v in enumerate(node.inputs))


@lowers(ops.Attention, holds=_is_attention)
def _attention(op: ops.Attention, out: TensorType, q: Held, k: Held, v: Held, mask: Held | None = None) -> Tensor:
    batch, heads, queries, depth = q.type.dims
    shared, keys = k.type.dims[1:3]
    groups = (-1, batch, shared, heads // shared * queries)
    scores = _product(tf.reshape(q.plain, (*groups, depth)), tf.transpose(k.plain, (0, 1, 2, 4, 3))) * op.scale
    scores = tf.reshape(scores, (-1, batch, heads, queries, keys))
    if op.softcap > 0:
        scores = op.softcap * tf.tanh(scores / op.softcap)
    seen = tf.constant(np.tri(queries, keys, dtype=bool) if op.causal else np.ones((1, 1), bool))
    if mask is not None:
        given = mask.aligned(4)
        seen = tf.logical_and(seen, given if given.dtype == tf.bool else given > FAR)
        scores = scores if given.dtype == tf.bool else scores + tf.maximum(given, FAR)
    weights = tf.exp(_log_probabilities(tf.where(seen, scores, FAR), -1)) * tf.cast(seen, scores.dtype)
    return tf.reshape(_product(tf.reshape(weights, (*groups, keys)), v.plain), (-1, *out.dims))


REDUCTIONS: dict[type[Op], Callable[..., Tensor]] = {
    ops.ReduceSum: tf.reduce_sum,
    ops.ReduceMean: tf.reduce_mean,
    ops.ReduceMax: tf.reduce_max,
    ops.ReduceMin: tf.reduce_min,
    ops.ReduceProd: tf.reduce_prod,
    ops.ReduceLogSumExp: tf.reduce_logsumexp,
}


def _reduce(function: Callable[..., Tensor], op: Reduce, out: TensorType, x: Held) -> Tensor | Held:
    rank = x.type.rank
    if x.is_last and op.axes == tuple(range(2, rank)):
        y = function(x.last, range(1, rank - 1), keepdims=op.keepdims)
        return Held(out, last=y) if op.keepdims else tf.reshape(y, (-1, *out.dims))
    return function(x.plain, after_runs(op.axes), keepdims=op.keepdims)


LOWERED.update((op, Lowering(partial(_reduce, function), is_float, ())) for op, function in REDUCTIONS.items())


def _log_probabilities(x: Tensor, axis: int) -> Tensor:
    """The logarithm of a softmax, at any rank; TensorFlow's own takes no more than five axes with oneDNN."""
    x = x - tf.stop_gradient(tf.reduce_max(x, axis, keepdims=True))
    return x - tf.math.log(tf.reduce_sum(tf.exp(x), axis, keepdims=True))


@lowers(ops.Softmax)
def _softmax(op: ops.Softmax, out: TensorType, x: Held) -> Tensor:
    return tf.exp(_log_probabilities(x.plain, op.axis + 1))


@lowers(ops.LogSoftmax)
def _log_softmax(op: ops.LogSoftmax, out: TensorType, x: Held) -> Tensor:
    return _log_probabilities(x.plain, op.axis + 1)


@lowers(ops.LpNormalize)
def _lp_normalize(op: ops.LpNormalize, out: TensorType, x: Held) -> Tensor:
    axis = op.axis + 1
    if op.p == 1:
        norm = tf.reduce_sum(tf.abs(x.plain), axis, keepdims=True)
    else:
        total = tf.reduce_sum(tf.square(x.plain), axis, keepdims=True)
        norm = tf.where(total == 0, 0.0, tf.sqrt(tf.where(total == 0, tf.ones_like(total), total)))
    norm = tf.maximum(norm, op.eps)
    return x.plain / tf.where(norm == 0, tf.ones_like(norm), norm)


def _standardized(x: Tensor, axes: list[int], eps: float) -> Tensor:
    centred = x - tf.reduce_mean(x, axes, keepdims=True)
    return centred * tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axes, keepdims=True) + eps)


def _trailing(op: TrailingNorm, v: Held, rank: int) -> Tensor:
    """A parameter, shaped to broadcast over a value of that rank."""
    after = rank - 1 - op.axes(rank)[-1]
    return tf.reshape(v.single, (*v.type.dims, *[1] * after))


@lowers(ops.LayerNorm, fixed=(1, 2))
def _layer_norm(op: ops.LayerNorm, out: TensorType, x: Held, scale: Held, bias: Held | None = None) -> Tensor:
    y = _standardized(x.plain, after_runs(op.axes(out.rank)), op.eps) * _trailing(op, scale, out.rank)
    return y if bias is None else y + _trailing(op, bias, out.rank)


@lowers(ops.RmsNorm, fixed=(1,))
def _rms_norm(op: ops.RmsNorm, out: TensorType, x: Held, scale: Held) -> Tensor:
    mean = tf.reduce_mean(tf.square(x.plain), after_runs(op.axes(out.rank)), keepdims=True)
    return x.plain * tf.math.rsqrt(mean + op.eps) * _trailing(op, scale, out.rank)


def _is_image(node: Node) -> bool:
    return is_float(node) and node.outputs[0].type.rank >= 3


@lowers(ops.InstanceNorm, holds=_is_image, fixed=(1, 2))
def _instance_norm(op: ops.InstanceNorm, out: TensorType, x: Held, scale: Held, bias: Held) -> Held:
    y = _standardized(x.last, list(range(1, out.rank - 1)), op.eps)
    return Held(out, last=y * scale.single + bias.single)


@lowers(ops.GroupNorm, holds=_is_image, fixed=(1, 2))
def _group_norm(op: ops.GroupNorm, out: TensorType, x: Held, scale: Held, bias: Held) -> Tensor:
    n, c, *spatial = out.dims
    grouped = tf.reshape(x.plain, (-1, n, op.groups, c // op.groups, *spatial))
    y = tf.reshape(_standardized(grouped, list(range(3, 4 + len(spatial))), op.eps), (-1, *out.dims))
    column = (c, *[1] * len(spatial))
    return y * tf.reshape(scale.single, column) + tf.reshape(bias.single, column)

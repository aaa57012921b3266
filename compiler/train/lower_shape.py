"""Operations that move, join and cut in TensorFlow."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.tensor import TensorType
from compiler.train.lower import Held, Tensor, after_runs, is_any, lowers, whole


def _has_elements(node: Node) -> bool:
    return all(v is None or v.type.size > 0 for v in (*node.inputs, *node.outputs))


@lowers(ops.Reshape, holds=_has_elements)
def _reshape(op: ops.Reshape, out: TensorType, x: Held) -> Tensor:
    return tf.reshape(x.plain, (-1, *out.dims))


@lowers(ops.Transpose, holds=is_any)
def _transpose(op: ops.Transpose, out: TensorType, x: Held) -> Tensor | Held:
    rank = out.rank
    if rank >= 3 and x.is_last and op.perm == (0, *range(2, rank), 1):
        return tf.reshape(x.last, (-1, *out.dims))
    if rank >= 3 and not x.is_last and op.perm == (0, rank - 1, *range(1, rank - 1)):
        return Held(out, last=tf.reshape(x.plain, (-1, *x.type.dims[1:])))
    return tf.transpose(x.plain, (0, *after_runs(op.perm)))


@lowers(ops.Expand, holds=is_any)
def _expand(op: ops.Expand, out: TensorType, x: Held) -> Tensor:
    aligned = x.aligned(out.rank)
    return tf.broadcast_to(aligned, (tf.shape(aligned)[0], *out.dims))


@lowers(ops.Concat, holds=is_any)
def _concat(op: ops.Concat, out: TensorType, *xs: Held) -> Tensor | Held:
    if op.axis == 1 and all(x.is_last for x in xs):
        return Held(out, last=tf.concat([x.last for x in xs], -1))
    return tf.concat(whole(xs), op.axis + 1)


@lowers(ops.Split, holds=is_any)
def _split(op: ops.Split, out: TensorType, x: Held) -> list[Tensor]:
    parts: list[Tensor] = tf.split(x.plain, op.sizes, op.axis + 1)
    return parts


@lowers(ops.Slice, holds=is_any)
def _slice(op: ops.Slice, out: TensorType, x: Held) -> Tensor:
    bounds = zip(op.starts, op.ends, op.steps, strict=True)
    return x.plain[(slice(None), *(slice(a, None if b < 0 else b, s) for a, b, s in bounds))]


@lowers(ops.Pad, holds=_has_elements, fixed=(1,))
def _pad(op: ops.Pad, out: TensorType, x: Held, fill: Held | None = None) -> Tensor:
    widths = list(zip(op.pads[: out.rank], op.pads[out.rank :], strict=True))
    if op.mode == "constant":
        value = tf.cast(op.value, x.plain.dtype) if fill is None else tf.reshape(fill.single, ())
        return tf.pad(x.plain, [(0, 0), *widths], constant_values=value)
    y = x.plain
    for axis, (width, d) in enumerate(zip(widths, x.type.dims, strict=True)):
        if any(width):
            y = tf.gather(y, np.pad(np.arange(d), width, op.mode), axis=axis + 1)  # type: ignore[call-overload]  # a str, checked by infer
    return y


@lowers(ops.Tile, holds=is_any)
def _tile(op: ops.Tile, out: TensorType, x: Held) -> Tensor:
    return tf.tile(x.plain, (1, *op.repeats))


@lowers(ops.DepthToSpace, ops.SpaceToDepth, holds=_has_elements)
def _blocks(op: ops.DepthToSpace, out: TensorType, x: Held) -> Tensor:
    split, perm, merged = op.steps(*x.type.dims)
    parts = tf.transpose(tf.reshape(x.plain, (-1, *split)), (0, *after_runs(perm)))
    return tf.reshape(parts, (-1, *merged))


@lowers(ops.Gather, holds=_has_elements)
def _gather(op: ops.Gather, out: TensorType, x: Held, indices: Held) -> Tensor:
    length = x.type.dims[op.axis]
    if not indices.varies:
        return tf.gather(x.plain, _from_front(indices.single, length), axis=op.axis + 1)
    if not x.varies and op.axis == 0:
        return tf.gather(x.single, _from_front(indices.plain, length))
    rows, places = whole((x, indices))
    return tf.gather(rows, _from_front(places, length), axis=op.axis + 1, batch_dims=1)


def _from_front(indices: Tensor, length: int) -> Tensor:
    return tf.where(indices < 0, indices + length, indices)


def _overwrites(node: Node) -> bool:
    op = node.op
    return isinstance(op, ops.ScatterND) and op.reduction == "none" and _has_elements(node)


@lowers(ops.ScatterND, holds=_overwrites, fixed=(1,))
def _scatter_nd(op: ops.ScatterND, out: TensorType, x: Held, indices: Held, updates: Held) -> Tensor:
    rows, new = whole((x, updates))
    depth = indices.type.dims[-1]
    places = _from_front(indices.single, tf.constant(out.dims[:depth], indices.single.dtype))
    to_back = (*range(1, out.rank + 1), 0)
    written = tf.tensor_scatter_nd_update(
        tf.transpose(rows, to_back), places, tf.transpose(new, (*range(1, updates.type.rank + 1), 0))
    )
    return tf.transpose(written, (out.rank, *range(out.rank)))


def _moves_taps(node: Node) -> bool:
    op, x = node.op, node.inputs[0]
    floats = x is not None and x.type.dtype.name in ("f32", "f64")
    return isinstance(op, ops.Resize) and op.coordinates != "tf_crop_and_resize" and floats and _has_elements(node)


@lowers(ops.Resize, holds=_moves_taps)
def _resize(op: ops.Resize, out: TensorType, x: Held) -> Tensor:
    y = x.plain
    for axis in op.resized_axes(x.type.dims):
        taps = op.taps(axis, x.type.dims[axis])
        if op.mode == "nearest":
            y = tf.gather(y, taps.places[:, 0], axis=axis + 1)
            continue
        matrix = np.zeros((op.sizes[axis], x.type.dims[axis]), x.type.dtype.numpy)
        np.add.at(matrix, (np.arange(op.sizes[axis])[:, None], taps.places), taps.weights)
        back = [i for i in range(out.rank + 1) if i != axis + 1]
        moved = tf.tensordot(y, tf.constant(matrix), [[axis + 1], [1]])
        y = tf.transpose(moved, np.argsort([*back, axis + 1]))
    return y


@lowers(ops.CumSum)
def _cumsum(op: ops.CumSum, out: TensorType, x: Held) -> Tensor:
    return tf.cumsum(x.plain, op.axis + 1, exclusive=op.exclusive, reverse=op.reverse)


def _known(node: Node) -> bool:
    return all(v is None or v.type.is_static for v in node.inputs)


@lowers(ops.ShapeOf, holds=_known)
def _shape(op: Op, out: TensorType, x: Held) -> Tensor:
    return tf.constant(op.evaluate(np.broadcast_to(np.zeros(()), x.type.dims)))[None]

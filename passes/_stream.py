"""The residual stream of a transformer with its normalisations in front: what is written to it, and what reads it."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from compiler.graph import Node, Value
from compiler.ops.conv import Conv
from compiler.ops.elementwise import Add, Sub
from compiler.ops.index import Gather
from compiler.ops.matmul import Dense
from compiler.ops.norm import LayerNorm
from compiler.ops.parts import Concat, Slice
from compiler.ops.shape import Reshape, Transpose
from compiler.rewrite import Builder
from compiler.tensor import F32, Array
from passes._heads import dense_parameters

LARGEST = 1 << 26  # bytes of a table of embeddings that is copied


class Stream(NamedTuple):
    """Values with the axis of their features; the layers that write, add and move them; the normalisations, which are
    all that reads them."""

    axes: dict[Value, int]
    layers: dict[Node, None]
    norms: dict[Node, None]


def stream_into(norm: Node, others: set[Value]) -> Stream | None:
    """The stream that a layer normalisation reads; None if something else reads it, or if it is written by layers
    without constant weights. Its values are then added to `others`, which are in no stream."""
    x = norm.inputs[0]
    assert x is not None
    stream = Stream({}, {}, {})
    waiting = [(x, x.type.rank - 1)]
    while waiting:
        v, axis = waiting.pop()
        if stream.axes.get(v) == axis:
            continue
        found = None if v in stream.axes or v in others else _neighbours(stream, v, axis)
        if found is None:
            others.update(u for u in (v, *stream.axes) if u.data is None)
            return None
        stream.axes[v] = axis
        waiting.extend(found)
    return stream


def _neighbours(stream: Stream, v: Value, axis: int) -> list[tuple[Value, int]] | None:
    """Values of the stream around one, each with its axis of features; None if it is not of a stream."""
    if v.type.dtype is not F32 or not v.type.is_static or v.n_out:
        return None
    if v.data is not None:
        return [] if v.data.nbytes <= LARGEST else None
    found: list[tuple[Value, int]] = []
    for reader in v.users:
        if type(reader.op) is LayerNorm and reader.inputs[0] is v and reader.op.axis == axis == v.type.rank - 1:
            stream.norms[reader] = None
            continue
        after = _axis_after(reader, v, axis)
        if after is None:
            return None
        found.append((reader.output, after))
    if v.node is None:
        return None
    stream.layers[v.node] = None
    before = [] if writes(v.node, axis) else _operands(v.node, axis)
    return None if before is None else [*found, *before]


def writes(node: Node, axis: int) -> bool:
    """Whether a layer computes features along `axis` with constant weights of their own."""
    if type(node.op) is Dense:
        return axis == node.output.type.rank - 1 and dense_parameters(node) is not None
    fixed = all(v is None or v.data is not None for v in node.inputs[1:])
    return type(node.op) is Conv and axis == 1 and node.op.groups == 1 and fixed


def _operands(node: Node, axis: int) -> list[tuple[Value, int]] | None:
    """The operands that a layer adds or moves, with their axes of features; None for a layer that does more."""
    op, y = node.op, node.outputs[0]
    x = node.inputs[0]
    if isinstance(op, Add | Sub):
        own = [(v, axis - y.type.rank + v.type.rank) for v in node.inputs if v is not None]
        fits = all(a >= 0 and (v.type.shape[a] == y.type.shape[axis] or v.data is not None) for v, a in own)
        return own if fits else None
    if isinstance(op, Concat):
        return [(v, axis) for v in node.inputs if v is not None] if op.axis != axis else None
    if x is None or len(node.outputs) != 1:
        return None
    if isinstance(op, Transpose):
        return [(x, op.perm[axis])]
    if isinstance(op, Slice):
        return [(x, axis)] if x.type.shape[axis] == y.type.shape[axis] and op.steps[axis] == 1 else None
    if isinstance(op, Gather):
        index = node.inputs[1]
        assert index is not None
        source = axis if axis < op.axis else axis - index.type.rank + 1
        return [(x, source)] if not op.axis <= axis < op.axis + index.type.rank else None
    before = [a for a in range(x.type.rank) if _same_axis(x, a, y, axis)] if isinstance(op, Reshape) else []
    return [(x, before[0])] if before else None


def _same_axis(x: Value, a: int, y: Value, b: int) -> bool:
    """Whether axis a of x is axis b of y, which is x under another shape."""
    s, t = x.type.dims, y.type.dims
    return s[a] == t[b] and prod(s[:a]) == prod(t[:b])


def _axis_after(reader: Node, v: Value, axis: int) -> int | None:
    """The axis of features of the result of a layer that adds or moves v; None for another layer."""
    if not reader.outputs[0].type.is_static:
        return None
    for after in range(reader.outputs[0].type.rank):
        found = _operands(reader, after)
        if found is not None and (v, axis) in found:
            return after
    return None


def centred(g: Builder, node: Node, new: dict[Value, Value], stream: Stream) -> Value:
    """A layer of the stream that writes, adds or moves values whose features have a mean of zero."""
    axis = stream.axes[node.output]
    if not writes(node, axis):
        return g.add(node.op, *(_centred_operand(g, v, new, stream) for v in node.inputs))
    x, w, *bias = node.inputs
    assert w is not None and w.data is not None
    features = 1 if type(node.op) is Dense and not node.op.transposed else 0
    constants = [g.const(_without_mean(w.data, features), like=w)]
    constants += [g.const(_without_mean(b.data, 0), like=b) for b in bias if b is not None and b.data is not None]
    return g.add(node.op, x, *constants)


def _centred_operand(g: Builder, v: Value | None, new: dict[Value, Value], stream: Stream) -> Value | None:
    if v is None or v not in stream.axes:
        return v
    if v.data is not None and v not in new:
        new[v] = g.const(_without_mean(v.data, stream.axes[v]), like=v)
    return new[v]


def _without_mean(data: Array, axis: int) -> Array:
    return (data - data.mean(axis, np.float64, keepdims=True)).astype(data.dtype)

"""Layers that move elements and compute nothing: they are copied with strides, or stay where they are."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from codegen.neon.copies import Fill
from codegen.program import Pointer
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import ConvertLayout, aligned_shape, order_of, physical_axis, physical_shape
from compiler.tensor import TensorType
from targets.source.lower.flatten import is_absorbed
from targets.source.lower.indexing import padded
from targets.source.lower.moving import at_element, dense, move
from targets.source.program import Program
from targets.source.table import lowers


def sizes_of(t: TensorType) -> list[int]:
    """The sizes of the axes as they lie in memory."""
    return [d for d in physical_shape(t) if isinstance(d, int)]


def operand(node: Node) -> Value:
    """The first operand."""
    x = node.inputs[0]
    assert x is not None
    return x


@lowers(ops.Reshape, ops.Identity, ops.BitCast)
def _same(p: Program, node: Node, _: Any) -> None:  # Any: whichever operation it is
    """Orders in memory are chosen so that the bytes stay."""
    p.view(node.output, p.at(operand(node)))


@lowers(ops.Transpose)
def _transpose(p: Program, node: Node, op: ops.Transpose) -> None:
    if not p.is_placed(node.output):
        _reordered(p, node, [op.perm[a] for a in order_of(node.output.type)])


@lowers(ConvertLayout)
def _convert_layout(p: Program, node: Node, _: ConvertLayout) -> None:
    if is_absorbed(node):
        p.view(node.output, p.at(operand(node)))
    else:
        _reordered(p, node, order_of(node.output.type))


def _reordered(p: Program, node: Node, axes: Any) -> None:  # Any: a sequence of the operand's logical axes
    """Axis i of the result in memory is the logical axis axes[i] of the operand."""
    x = operand(node)
    places = [physical_axis(x.type, a) for a in axes]
    lying = sizes_of(x.type)
    moved = [i for i in places if lying[i] != 1]
    if moved == sorted(moved):
        p.view(node.output, p.at(x))
        return
    strides, sizes = dense(lying), sizes_of(node.output.type)
    source = p.at(x)
    y = p.result(node.output)
    given = (source, [strides[i] for i in places])
    move(p, node, x.type.dtype, given, (y, dense(sizes)), sizes, f"transpose of {x.type}")


@lowers(ops.Expand)
def _expand(p: Program, node: Node, _: ops.Expand) -> None:
    x, out = operand(node), node.output.type
    sizes = sizes_of(out)
    own = [d for d in aligned_shape(x.type, out) if isinstance(d, int)]
    strides = [0 if d != n else s for d, n, s in zip(own, sizes, dense(own), strict=True)]
    source = p.at(x)
    y = p.result(node.output)
    move(p, node, out.dtype, (source, strides), (y, dense(sizes)), sizes, f"{x.type} repeated")


@lowers(ops.Tile)
def _tile(p: Program, node: Node, op: ops.Tile) -> None:
    x, out = operand(node), node.output.type
    own = sizes_of(x.type)
    repeats = [op.repeats[a] for a in order_of(x.type)]
    sizes = [n for pair in zip(repeats, own, strict=True) for n in pair]
    s = [n for stride in dense(own) for n in (0, stride)]
    t = [n for stride, d in zip(dense(sizes_of(out)), own, strict=True) for n in (stride * d, stride)]
    source = p.at(x)
    y = p.result(node.output)
    move(p, node, out.dtype, (source, s), (y, t), sizes, f"{x.type} repeated")


@lowers(ops.Concat)
def _concat(p: Program, node: Node, op: ops.Concat) -> None:
    out = node.output.type
    axis = physical_axis(out, op.axis)
    whole = dense(sizes_of(out))
    parts = [(v, p.at(v)) for v in node.inputs if v is not None]
    y = p.result(node.output)
    begin = 0
    for v, source in parts:
        sizes = sizes_of(v.type)
        place = at_element(y, begin * whole[axis], out.dtype)
        move(p, node, out.dtype, (source, dense(sizes)), (place, whole), sizes, f"{v.type} into {out}")
        begin += sizes[axis]


@lowers(ops.Split)
def _split(p: Program, node: Node, op: ops.Split) -> None:
    x = operand(node)
    axis = physical_axis(x.type, op.axis)
    begin = 0
    for v, size in zip(node.outputs, op.sizes, strict=True):
        _part(p, node, x, v, {axis: (begin, 1)})
        begin += size


@lowers(ops.Slice)
def _slice(p: Program, node: Node, op: ops.Slice) -> None:
    x = operand(node)
    bounds = {physical_axis(x.type, a): (op.starts[a], op.steps[a]) for a in range(x.type.rank)}
    _part(p, node, x, node.output, bounds)


def _part(p: Program, node: Node, x: Value, y: Value, bounds: dict[int, tuple[int, int]]) -> None:
    """Every step-th element from a start on, along axes in memory; a view where these lie side by side."""
    whole, sizes = dense(sizes_of(x.type)), sizes_of(y.type)
    begin = sum(start * whole[axis] for axis, (start, _) in bounds.items())
    strides = [s * bounds[axis][1] if axis in bounds else s for axis, s in enumerate(whole)]
    source = at_element(p.at(x), begin, x.type.dtype) if prod(sizes) else p.at(x)
    if all(n == 1 or a == b for n, a, b in zip(sizes, strides, dense(sizes), strict=True)):
        p.view(y, source)
        return
    move(p, node, x.type.dtype, (source, strides), (p.result(y), dense(sizes)), sizes, f"part of {x.type}")


@lowers(ops.Pad)
def _pad(p: Program, node: Node, op: ops.Pad) -> None:
    if op.mode != "constant":
        padded(p, node, op)
        return
    x, out = operand(node), node.output.type
    order = order_of(x.type)
    fill = p.at(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else _number(p, node, op)
    whole, sizes = dense(sizes_of(out)), sizes_of(x.type)
    source = p.at(x)
    y = p.result(node.output)
    p.call(Fill(size=out.dtype.numpy.itemsize), fill, y, out.size, node=node, title=f"padding of {out}")
    begin = sum(op.pads[a] * whole[i] for i, a in enumerate(order))
    inside = (at_element(y, begin, out.dtype), whole)
    move(p, node, out.dtype, (source, dense(sizes)), inside, sizes, f"{x.type} inside")


def _number(p: Program, node: Node, op: ops.Pad) -> Pointer:
    return p.constant(np.array([op.value], node.output.type.dtype.numpy), "fill")

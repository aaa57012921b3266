"""Pools and resampling of any types and any number of axes, in plain loops; what moves blocks between space and
channels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import prod

import numpy as np

from codegen.neon.gather import Gather
from codegen.neon.windows import PlainPool, ResizeAxis
from codegen.program import Pointer
from compiler import ops
from compiler.graph import Node
from compiler.tensor import F32, F64, DType, TensorType
from targets.source.lower.indexing import laid, operands
from targets.source.lower.moving import at_element, move
from targets.source.lower.search import lines
from targets.source.program import Program, bytes_of, ctype_of
from targets.source.table import lowers

KINDS = {ops.MaxPool: "max", ops.AveragePool: "average", ops.LpPool: "lp"}


def plain_pool(p: Program, node: Node, op: ops.Pool) -> None:
    """One window at a time."""
    (x,) = operands(node)
    source = p.at(x)
    results = [p.result(v) for v in node.outputs]
    y = node.outputs[0]
    if not y.type.size:
        return
    places = op if isinstance(op, ops.MaxPool) and op.indices else None
    kernel = PlainPool(
        ctype=ctype_of(x.type.dtype),
        kind=KINDS[type(op)],
        x=laid(x),
        y=laid(y),
        kernel=op.kernel,
        strides=op.strides,
        pads=op.pads,
        dilations=op.dilations,
        p=op.p if isinstance(op, ops.LpPool) else 2,
        counts_pads=isinstance(op, ops.AveragePool) and op.count_include_pad,
        indices=places is not None,
        by_columns=places is not None and bool(places.storage_order),
    )
    size = "x".join(map(str, op.kernel))
    p.call(kernel, source, *results, node=node, title=f"{kernel.kind} of {size} windows of {x.type}")


def plain_resize(p: Program, node: Node, op: ops.Resize) -> None:
    """Axis by axis."""
    (x,) = operands(node)
    t, source = x.type, p.at(x)
    axes = op.resized_axes(t.dims)
    if not node.output.type.size or not axes:
        p.view(node.output, source)
        return
    for axis in axes:
        made = node.output.type if axis == axes[-1] else _resized(p, t, axis, op)
        y = p.result(node.output) if axis == axes[-1] else p.scratch(made.size * bytes_of(made.dtype), "resized")
        _along(p, node, op, axis, (source, t), (y, made))
        source, t = y, made
    if op.coordinates == "tf_crop_and_resize":
        for axis in axes:
            _fill_outside(p, node, op, axis, x.type.dims[axis])


def _wide(p: Program, dtype: DType) -> DType:
    """What sums of taps are computed in."""
    return F64 if p.has_doubles and (dtype.is_integer or dtype is F64) else F32


def _resized(p: Program, t: TensorType, axis: int, op: ops.Resize) -> TensorType:
    """After one axis of several: sums stay as wide as they are computed."""
    dtype = t.dtype if op.mode == "nearest" else _wide(p, t.dtype)
    return t._replace(dtype=dtype, shape=(*t.dims[:axis], op.sizes[axis], *t.dims[axis + 1 :]))


def _along(
    p: Program, node: Node, op: ops.Resize, axis: int, x: tuple[Pointer, TensorType], y: tuple[Pointer, TensorType]
) -> None:
    """Resample one axis."""
    (source, t), (place, made) = x, y
    outer, length, inner = lines(t, axis)
    count, taps = op.sizes[axis], op.taps(axis, length)
    title = f"axis {axis} of {t} to {count}"
    indices = p.constant(np.ascontiguousarray(taps.places, np.int32), f"places_{count}")
    if op.mode == "nearest":
        kernel = Gather(size=bytes_of(t.dtype), index="int32_t", is_row=inner > 1)
        p.call(kernel, source, indices, place, outer, length, count, *[inner] * (inner > 1), node=node, title=title)
        return
    wide = _wide(p, t.dtype)
    weights = p.constant(np.ascontiguousarray(taps.weights, wide.numpy), f"weights_{count}")
    resize = ResizeAxis(ctype=ctype_of(t.dtype), result=ctype_of(made.dtype), wide=ctype_of(wide))
    sizes = outer, length, inner, count, taps.places.shape[1]
    p.call(resize, source, indices, weights, place, *sizes, node=node, title=title)


def _fill_outside(p: Program, node: Node, op: ops.Resize, axis: int, length: int) -> None:
    """Results that lie beyond x along one axis get the same number."""
    t, y = node.output.type, p.at(node.output)
    at = op.coordinates_of(axis, length)
    outside = [int(i) for i in np.flatnonzero((at < 0) | (at > length - 1))]
    value = p.constant(np.array([op.extrapolation_value]).astype(t.dtype.numpy), "outside")
    outer, count, inner = lines(t, axis)
    for _, group in groupby(outside, key=lambda i, whole=outside: i - whole.index(i)):  # type: ignore[misc]  # bound early
        run = list(group)
        sizes = (outer, len(run) * inner)
        to = at_element(y, run[0] * inner, t.dtype)
        move(p, node, t.dtype, (value, (0, 0)), (to, (count * inner, 1)), sizes, f"{len(run)} of axis {axis} outside")


@lowers(ops.SpaceToDepth, ops.DepthToSpace)
def _blocks(p: Program, node: Node, op: ops.SpaceToDepth | ops.DepthToSpace) -> None:
    (x,) = operands(node)
    split, perm, _ = op.steps(*x.type.dims)
    source = p.at(x)
    y = p.result(node.output)
    s = _split(*laid(x), split)
    moved = [split[a] for a in perm]
    t = _split(*laid(node.output), moved)
    move(p, node, x.type.dtype, (source, [s[a] for a in perm]), (y, t), moved, f"blocks of {x.type}")


def _split(dims: Sequence[int], strides: Sequence[int], parts: Sequence[int]) -> list[int]:
    """The strides of axes cut into parts, of which each axis is the product of some that stand together."""
    found: list[int] = []
    for size, stride in zip(dims, strides, strict=True):
        own: list[int] = []
        while len(found) + len(own) < len(parts) and (not own or prod(own) != size):
            own.append(parts[len(found) + len(own)])
        found += [stride * prod(own[i + 1 :]) for i in range(len(own))]
    return [*found, *[0] * (len(parts) - len(found))]

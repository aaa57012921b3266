"""Gathers and scatters; indices are counted from the front, for negative ones are undefined since iOS 17."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.target import Need
from compiler.tensor import BOOL, Array
from targets.coreml.lower.lowering import Lowering, Operands
from targets.coreml.lower.table import lowers, makes, since
from targets.coreml.mil import Var


def from_front(p: Lowering, i: Var, lengths: int | Array) -> Var:
    """Indices with the length of their axis (or of each axis, along the last axis of `i`) added where negative."""
    if isinstance(i.value, np.ndarray):
        return p.ints(np.where(i.value < 0, i.value + lengths, i.value))
    moved = p.like(i, "add", y=lengths)
    return p.select(p.test("less", i, 0), moved, i)


def _indices(p: Lowering, v: Value | None, lengths: int | Array) -> Var:
    assert v is not None
    return from_front(p, p[v], lengths)


def _movable(p: Lowering, x: Var) -> Var:
    """Gathers and scatters take no booleans."""
    return p.cast(x, "int32") if x.dtype == "bool" else x


@lowers(ops.Gather)
def _gather(p: Lowering, node: Node, op: ops.Gather) -> None:
    x = p.operands(node)[0]
    indices = _indices(p, node.inputs[1], x.shape[op.axis])
    source = _movable(p, x)
    operands: Operands = {"x": source, "indices": indices, "axis": op.axis}
    y = p.add("gather", operands, source.dtype, node.output.type.dims, node.output.name)
    p.bind(node.output, p.cast(y, x.dtype))


@lowers(ops.GatherElements)
def _gather_elements(p: Lowering, node: Node, op: ops.GatherElements) -> None:
    """MIL wants as many elements as indices along the other axes."""
    x = p.operands(node)[0]
    indices = _indices(p, node.inputs[1], x.shape[op.axis])
    source = _movable(p, x)
    for axis, n in enumerate(indices.shape):
        if axis != op.axis:
            source = p.cut(source, axis, 0, n)
    operands: Operands = {"x": source, "indices": indices, "axis": op.axis}
    y = p.add("gather_along_axis", operands, source.dtype, indices.shape, node.output.name)
    p.bind(node.output, p.cast(y, x.dtype))


def _batched(node: Node) -> bool:
    return isinstance(node.op, ops.GatherND) and node.op.batch_dims > 0


@lowers(ops.GatherND, needs=[since(16, "a GatherND with batch_dims", _batched)])
def _gather_nd(p: Lowering, node: Node, op: ops.GatherND) -> None:
    x = p.operands(node)[0]
    v = node.inputs[1]
    assert v is not None
    lengths = np.array(x.shape[op.batch_dims : op.batch_dims + v.type.dims[-1]], np.int32)
    indices, source = _indices(p, v, lengths), _movable(p, x)
    operands: Operands = {"x": source, "indices": indices, "batch_dims": op.batch_dims if p.ios >= 16 else None}
    y = p.add("gather_nd", operands, source.dtype, node.output.type.dims, node.output.name)
    p.bind(node.output, p.cast(y, x.dtype))


MODES = {"none": "update", "add": "add", "mul": "mul", "min": "min", "max": "max"}
MOVED = Need(
    text="reduction none for booleans",
    holds=lambda node: node.output.type.dtype is not BOOL or getattr(node.op, "reduction", "none") == "none",
)


def _position_bytes(node: Node) -> int:
    """Of the positions of all indices along the other axes, where they do not fill them."""
    (x, indices, *_), op = node.input_types, node.op
    assert x is not None and indices is not None and isinstance(op, ops.ScatterElements)
    filled = all(n == d for i, (n, d) in enumerate(zip(indices.dims, x.dims, strict=True)) if i != op.axis)
    return 0 if filled else 4 * (x.rank - 1) * indices.size


@lowers(ops.ScatterElements, needs=[MOVED, makes(_position_bytes)])
def _scatter_elements(p: Lowering, node: Node, op: ops.ScatterElements) -> None:
    """MIL wants indices for every element along the other axes; where there are fewer, each becomes the position of
    one element, and all are scattered by position."""
    x, _, updates = (_movable(p, v) for v in p.operands(node))
    indices = _indices(p, node.inputs[1], x.shape[op.axis])
    others = [i for i in range(len(x.shape)) if i != op.axis]
    if all(indices.shape[i] == x.shape[i] for i in others):
        operands: Operands = {
            "data": x,
            "indices": indices,
            "updates": updates,
            "axis": op.axis,
            "mode": MODES[op.reduction],
        }
        y = p.add("scatter_along_axis", operands, x.dtype, x.shape, node.output.name)
    else:
        count = prod(indices.shape)
        columns = [
            p.reshape(indices, (count, 1)) if i == op.axis else p.ints(grid.reshape(count, 1), "positions")
            for i, grid in enumerate(np.indices(indices.shape))
        ]
        y = _scattered(p, x, p.concat(columns, 1), p.reshape(updates, (count,)), op.reduction, node.output.name)
    p.finish(node, p.cast(y, p.dtype(node.output.type.dtype)))


@lowers(ops.ScatterND, needs=[MOVED])
def _scatter_nd(p: Lowering, node: Node, op: ops.ScatterND) -> None:
    x, _, updates = (_movable(p, v) for v in p.operands(node))
    v = node.inputs[1]
    assert v is not None
    indices = _indices(p, v, np.array(x.shape[: v.type.dims[-1]], np.int32))
    y = _scattered(p, x, indices, updates, op.reduction, node.output.name)
    p.finish(node, p.cast(y, p.dtype(node.output.type.dtype)))


def _scattered(p: Lowering, x: Var, indices: Var, updates: Var, reduction: str, name: str = "") -> Var:
    operands: Operands = {"data": x, "indices": indices, "updates": updates, "mode": MODES[reduction]}
    return p.add("scatter_nd", operands, x.dtype, x.shape, name)

"""Gathers and scatters; indices count from either end."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.target import Need
from compiler.tensor import BOOL
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.table import lowers, makes
from targets.coreai.program import Var


def _signed(p: Lowering, i: Var) -> Var:
    return p.cast(i, "int32")


@lowers(ops.Gather)
def _gather(p: Lowering, node: Node, op: ops.Gather) -> None:
    x, i = p.operands(node)
    p.bind(node.output, p.take(x, _signed(p, i), op.axis))


@lowers(ops.GatherElements)
def _gather_elements(p: Lowering, node: Node, op: ops.GatherElements) -> None:
    """As many elements as indices are left along the other axes."""
    x, i = p.operands(node)
    for axis, n in enumerate(i.shape):
        if axis != op.axis:
            x = p.cut(x, axis, 0, n)
    p.bind(node.output, p.op("gather_along_axis", [x, _signed(p, i), p.axis(op.axis)], x.dtype, i.shape))


@lowers(ops.GatherND)
def _gather_nd(p: Lowering, node: Node, op: ops.GatherND) -> None:
    """Batch axes are one more index each."""
    x, i = p.operands(node)
    i = _signed(p, i)
    if op.batch_dims:
        places = np.indices(i.shape[: op.batch_dims]).transpose(*range(1, op.batch_dims + 1), 0)
        middle = [1] * (len(i.shape) - 1 - op.batch_dims)
        places = places.reshape(*i.shape[: op.batch_dims], *middle, op.batch_dims)
        batch = p.ints(np.broadcast_to(places, (*i.shape[:-1], op.batch_dims)))
        i = p.concat([batch, i], len(i.shape) - 1)
    p.bind(node.output, p.op("gather_nd", [x, i], x.dtype, node.output.type.dims))


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
    """The dialect wants indices for every element along the other axes; where there are fewer, each becomes the
    position of one element of the flattened tensor."""
    x, i, updates = p.operands(node)
    i = _signed(p, i)
    if all(n == d for axis, (n, d) in enumerate(zip(i.shape, x.shape, strict=True)) if axis != op.axis):
        p.bind(node.output, scattered(p, x, i, updates, op.axis, op.reduction))
        return
    strides = [prod(x.shape[axis + 1 :]) for axis in range(len(x.shape))]
    others = sum(g * s for axis, (g, s) in enumerate(zip(np.indices(i.shape), strides, strict=True)) if axis != op.axis)
    i = from_front(p, i, x.shape[op.axis])
    at = p.binary("add", p.binary("mul", i, strides[op.axis]), p.ints(np.asarray(others)))
    y = scattered(p, p.flat(x), p.flat(at), p.flat(updates), 0, op.reduction)
    p.bind(node.output, p.reshape(y, x.shape))


def from_front(p: Lowering, i: Var, length: int) -> Var:
    """Indices with the length of their axis added where negative."""
    return p.select(p.test("less", i, 0), p.binary("add", i, length), i)


def scattered(p: Lowering, x: Var, i: Var, updates: Var, axis: int, reduction: str) -> Var:
    """`x` with elements along an axis replaced, or combined with others."""
    mode = f"scatter_mode = #coreai.scatter_mode<{MODES[reduction]}>"
    return p.op("scatter_along_axis", [x, i, updates, p.axis(axis)], x.dtype, x.shape, mode)


@lowers(ops.ScatterND, needs=[MOVED])
def _scatter_nd(p: Lowering, node: Node, op: ops.ScatterND) -> None:
    """The dialect's own operation replaces; to combine, slices become rows of a matrix, and their places one index."""
    x, i, updates = p.operands(node)
    i = _signed(p, i)
    if op.reduction == "none":
        p.bind(node.output, p.program.scatter_nd(x, i, updates))
        return
    depth = i.shape[-1]
    rows, width, count = prod(x.shape[:depth]), prod(x.shape[depth:]), prod(i.shape[:-1])
    strides = [prod(x.shape[axis + 1 : depth]) for axis in range(depth)]
    lengths = p.ints(x.shape[:depth])
    i = p.select(p.test("less", i, 0), p.binary("add", i, lengths), i)
    at = p.reduce("reduce_sum", p.binary("mul", i, p.ints(strides)), [len(i.shape) - 1])
    spread = p.spread(p.reshape(at, (count, 1)), (count, width))
    y = scattered(p, p.reshape(x, (rows, width)), spread, p.reshape(updates, (count, width)), 0, op.reduction)
    p.bind(node.output, p.reshape(y, x.shape))


@lowers(ops.ReverseSequence)
def _reverse_sequence(p: Lowering, node: Node, op: ops.ReverseSequence) -> None:
    x, lengths = p.operands(node)
    p.bind(node.output, reversed_sequence(p, x, lengths, op.time_axis, op.batch_axis))


def reversed_sequence(p: Lowering, x: Var, lengths: Var, time: int, batch: int) -> Var:
    """The first `lengths` steps of each row in the opposite order, the others as they are."""
    rank, steps = len(x.shape), x.shape[time]
    at = p.ints(np.arange(steps).reshape([steps if i == time else 1 for i in range(rank)]))
    ends = p.reshape(p.cast(lengths, "int32"), [x.shape[batch] if i == batch else 1 for i in range(rank)])
    places = p.select(p.test("less", at, ends), p.binary("sub", p.binary("sub", ends, 1), at), at)
    return p.op("gather_along_axis", [x, p.spread(places, x.shape), p.axis(time)], x.dtype, x.shape)

"""Reading and writing elements at computed positions, and finding elements."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.target import Need
from compiler.tensor import I64, U32, U64
from targets.tflite.lower.integer import ordered
from targets.tflite.lower.lowering import Lowering, restricted
from targets.tflite.lower.table import RING, SOURCE, lowers
from targets.tflite.model import Tensor


def _from_front(p: Lowering, v: Value, length: int) -> Tensor:
    """Indices as int32, counted from the front."""
    if v.data is not None:
        return p.ints(np.where(v.data < 0, v.data + length, v.data))
    index = p.cast(p.get(v), "INT32")
    return p.binary("FLOOR_MOD", index, p.scalar(length, "INT32"))


@lowers(ops.Gather)
def _gather(p: Lowering, node: Node, op: ops.Gather) -> None:
    x, indices = node.inputs
    assert x is not None and indices is not None
    own = (indices.type.rank == 1 and node.output.type.layout) or None
    order = own.order if own else p.order(x) if indices.type.rank <= 1 else None
    source = p.get(x, order)
    axis = order.index(op.axis) if order else op.axis
    y = p.take(source, _from_front(p, indices, x.type.dims[op.axis]), axis)
    if order is not None and not indices.type.rank:
        order = restricted(order, [a for a in range(x.type.rank) if a != op.axis])
    p.finish(node, y, order)


def _linear(p: Lowering, v: Value, dims: tuple[int, ...], batch: tuple[int, ...] = ()) -> Tensor:
    """Positions [*batch,...,len(dims)] in a block of `dims`, as indices of its elements; blocks of the batch follow
    one another."""
    strides = [prod(dims[i + 1 :]) for i in range(len(dims))]
    blocks = prod(batch)
    base = np.arange(blocks).reshape((*batch, *[1] * (v.type.rank - 1 - len(batch)))) * prod(dims)
    if v.data is not None:
        front = np.where(v.data < 0, v.data + np.array(dims), v.data)
        return p.ints((front * strides).sum(-1) + base)
    index = p.binary("FLOOR_MOD", p.cast(p.get(v), "INT32"), p.ints(dims))
    place = p.reduce("SUM", p.binary("MUL", index, p.ints(strides)), [-1], keep=False)
    return p.binary("ADD", place, p.ints(base)) if blocks > 1 else place


@lowers(ops.GatherND)
def _gather_nd(p: Lowering, node: Node, op: ops.GatherND) -> None:
    """Rows of the operand seen as a matrix."""
    x, indices = node.inputs
    assert x is not None and indices is not None
    b, depth = op.batch_dims, indices.type.dims[-1]
    dims = x.type.dims
    rows = p.reshape(p.get(x), (prod(dims[: b + depth]), *dims[b + depth :]))
    y = p.take(rows, _linear(p, indices, dims[b : b + depth], dims[:b]), 0)
    p.finish(node, y)


def _along(p: Lowering, v: Value, dims: tuple[int, ...], axis: int) -> Tensor:
    """Indices of the elements of a tensor of `dims` that GatherElements reads."""
    stride = prod(dims[axis + 1 :])
    base = np.zeros(v.type.dims, np.int64)
    for i, n in enumerate(v.type.dims):
        if i != axis:
            base += (np.arange(n) * prod(dims[i + 1 :])).reshape([-1 if k == i else 1 for k in range(len(dims))])
    if v.data is not None:
        return p.ints(np.where(v.data < 0, v.data + dims[axis], v.data) * stride + base)
    index = p.binary("MUL", _from_front(p, v, dims[axis]), p.scalar(stride, "INT32"))
    return p.binary("ADD", index, p.ints(base))


@lowers(ops.GatherElements)
def _gather_elements(p: Lowering, node: Node, op: ops.GatherElements) -> None:
    x, indices = node.inputs
    assert x is not None and indices is not None
    places = _along(p, indices, x.type.dims, op.axis)
    p.finish(node, p.take(p.reshape(p.get(x), (x.type.size,)), places, 0))


SEGMENTS = {"mul": ("UNSORTED_SEGMENT_PROD", "MUL"), "max": ("UNSORTED_SEGMENT_MAX", "MAXIMUM"),
            "min": ("UNSORTED_SEGMENT_MIN", "MINIMUM")}  # fmt: skip
LONG = (I64, U32, U64)  # held in int64, which has no segments


REDUCED = Need(
    text="reduction none or add, or floats or integers of at most 32 bits",
    holds=lambda node: getattr(node.op, "reduction", "") not in SEGMENTS or node.output.type.dtype not in LONG,
    source=SOURCE,
    confidence="measured",
)


@lowers(ops.ScatterND, ops.ScatterElements, needs=[REDUCED])
def _scatter(p: Lowering, node: Node, op: ops.ScatterND | ops.ScatterElements) -> None:
    """Into rows of the operand seen as a matrix; at constant places, rows are picked from both."""
    x, indices, updates = node.inputs
    assert x is not None and indices is not None and updates is not None
    dims = x.type.dims
    if isinstance(op, ops.ScatterND):
        depth = indices.type.dims[-1]
        places = _linear(p, indices, dims[:depth])
    else:
        depth = len(dims)
        places = _along(p, indices, dims, op.axis)
    count, rest = prod(places.shape), dims[depth:]
    rows = p.reshape(p.get(x), (prod(dims[:depth]), *rest))
    new = p.reshape(p.get(updates), (count, *rest))
    y = _combined(p, rows, p.reshape(places, (count,)), new, op.reduction)
    p.finish(node, p.reshape(y, dims))


def _combined(p: Lowering, rows: Tensor, places: Tensor, new: Tensor, reduction: str) -> Tensor:
    """Rows with new ones put in, or combined, at places; of several at one place, the last one stays."""
    shape, count = rows.shape, rows.shape[0]
    if reduction == "none" and places.constant is not None:
        source = np.arange(count)
        source[places.constant.stored()] = count + np.arange(new.shape[0])
        return p.take(p.concat([rows, new], 0), p.ints(source), 0)
    if reduction == "add":
        column = p.reshape(places, (places.shape[0], 1))
        return p.binary("ADD", rows, p.add("SCATTER_ND", [column, new, p.ints(shape)], new.dtype, shape))
    number = p.ints(np.arange(new.shape[0]))
    last = p.add("UNSORTED_SEGMENT_MAX", [number, places, p.scalar(count, "INT32")], "INT32", (count,))
    written = p.reshape(p.binary("GREATER", last, p.scalar(-1, "INT32")), (count, *[1] * (len(shape) - 1)))
    if reduction == "none":
        return p.select(written, p.take(new, p.binary("MAXIMUM", last, p.scalar(0, "INT32")), 0), rows)
    code, combine = SEGMENTS[reduction]
    wide = p.reshape(new, (new.shape[0], prod(shape[1:])))
    segments = p.add(code, [wide, places, p.scalar(count, "INT32")], new.dtype, (count, prod(shape[1:])))
    return p.select(written, p.binary(combine, rows, p.reshape(segments, shape)), rows)


@lowers(ops.OneHot)
def _one_hot(p: Lowering, node: Node, op: ops.OneHot) -> None:
    indices, values = p.operands(node)
    index = p.cast(indices, "INT32")
    below = p.binary("LESS", index, p.scalar(0, "INT32"))
    index = p.select(below, p.plus(index, op.depth), index)
    off, on = (p.reshape(t, ()) for t in p.split(values, [1, 1], 0))
    y = p.add(
        "ONE_HOT", [index, p.scalar(op.depth, "INT32"), on, off], values.dtype, node.output.type.dims, Axis=op.axis
    )
    p.finish(node, y)


def _last(p: Lowering, v: Value, axis: int) -> tuple[Tensor, tuple[int, ...]]:
    """A value in an order that has `axis` behind, the one it is held in if that will do."""
    order = p.order(v)
    if order[-1] != axis:
        order = (*(a for a in order if a != axis), axis)
    return p.get(v, order), order


@lowers(ops.TopK, needs=[RING])
def _top_k(p: Lowering, node: Node, op: ops.TopK) -> None:
    """The smallest are the largest of the opposites."""
    (v,) = node.inputs
    assert v is not None
    x, order = _last(p, v, op.axis)
    x = ordered(p, x, v.type.dtype)
    source = x if op.largest else _opposite(p, x)
    shape = (*x.shape[:-1], op.k)
    results = [(x.dtype, shape), ("INT32", shape)]
    best, places = p.model.add("TOPK_V2", [source, p.scalar(op.k, "INT32")], results)
    values = best if op.largest else _opposite(p, best)
    p.bind(node.outputs[0], ordered(p, values, v.type.dtype), order)
    p.bind(node.outputs[1], p.cast(places, "INT64"), order)


def _opposite(p: Lowering, x: Tensor) -> Tensor:
    """-x, or -1 - x of integers, which all have one."""
    if x.dtype == "FLOAT32":
        return p.unary("NEG", x)
    return p.binary("SUB", p.scalar(-1, x.dtype), x)


@lowers(ops.ArgMax, ops.ArgMin, needs=[RING])
def _arg_extreme(p: Lowering, node: Node, op: ops.ArgMax | ops.ArgMin) -> None:
    (v,) = node.inputs
    assert v is not None
    order = p.order(v)
    x, axis = ordered(p, p.get(v, order), v.type.dtype), order.index(op.axis)
    if op.select_last_index:
        x = p.add("REVERSE_V2", [x, p.ints([axis])], x.dtype, x.shape)
    shape = [d for i, d in enumerate(x.shape) if i != axis]
    y = _first_extreme(p, x, axis, shape, isinstance(op, ops.ArgMax))
    if op.select_last_index:
        y = p.binary("SUB", p.scalar(x.shape[axis] - 1, "INT64"), y)
    if op.keepdims:
        p.finish(node, p.reshape(y, [1 if i == axis else d for i, d in enumerate(x.shape)]), order)
    else:
        p.finish(node, y, restricted(order, [a for a in range(v.type.rank) if a != op.axis]))


def _first_extreme(p: Lowering, x: Tensor, axis: int, shape: list[int], largest: bool) -> Tensor:
    """64-bit integers are sorted, having no kernel."""
    if x.dtype != "INT64":
        code = "ARG_MAX" if largest else "ARG_MIN"
        return p.cast(p.add(code, [x, p.scalar(axis, "INT32")], "INT32", shape, OutputType=2), "INT64")
    perm = [*(i for i in range(len(x.shape)) if i != axis), axis]
    moved = p.transpose(x, perm)
    source = moved if largest else _opposite(p, moved)
    results = [(x.dtype, (*shape, 1)), ("INT32", (*shape, 1))]
    places = p.model.add("TOPK_V2", [source, p.scalar(1, "INT32")], results)[1]
    return p.cast(p.reshape(places, shape), "INT64")


@lowers(ops.CumSum, needs=[RING])
def _cumsum(p: Lowering, node: Node, op: ops.CumSum) -> None:
    (v,) = node.inputs
    assert v is not None
    order = p.result_order(node)
    x = p.get(v, order)
    axis = p.scalar(order.index(op.axis), "INT32")
    y = p.add("CUMSUM", [x, axis], x.dtype, x.shape, Exclusive=op.exclusive, Reverse=op.reverse)
    p.finish(node, y, order)

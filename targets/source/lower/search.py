"""Layers that look for elements: the best ones, those that hold, the distinct ones; and sums along an axis."""

from __future__ import annotations

from math import prod

from codegen.neon.plain import Ints
from codegen.neon.selection import Compress, NonMaxSuppression, NonZero, Unique
from codegen.neon.sorting import ArgExtreme, Cumulate, TopK
from codegen.program import Pointer
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import order_of, physical_axis
from compiler.tensor import TensorType
from targets.source.dynamic import largest
from targets.source.lower.indexing import operands
from targets.source.lower.moving import dense
from targets.source.needs import FLOATS, LAST, NUMBERS, types_of
from targets.source.program import Program, bytes_of, ctype_of
from targets.source.table import lowers


def lines(t: TensorType, axis: int) -> tuple[int, int, int]:
    """The elements in memory outside of an axis, along it and inside of it."""
    at = physical_axis(t, axis)
    lying = [t.dims[a] for a in order_of(t)]
    return prod(lying[:at]), lying[at], prod(lying[at + 1 :])


@lowers(ops.TopK, needs=(NUMBERS,))
def _topk(p: Program, node: Node, op: ops.TopK) -> None:
    (x,) = operands(node)
    source = p.at(x)
    results = [p.result(v) for v in node.outputs]
    if node.outputs[0].type.size:
        kernel = TopK(ctype=ctype_of(x.type.dtype), is_largest=op.largest)
        title = f"the {op.k} {'largest' if op.largest else 'smallest'} of {x.type}"
        p.call(kernel, source, *results, *lines(x.type, op.axis), op.k, node=node, title=title)


@lowers(ops.CumSum, ops.CumProd, needs=(NUMBERS,))
def _cumulate(p: Program, node: Node, op: ops.CumSum | ops.CumProd) -> None:
    (x,) = operands(node)
    source = p.at(x)
    y = p.result(node.output)
    if not x.type.size:
        return
    kernel = Cumulate(
        ctype=ctype_of(x.type.dtype),
        is_product=isinstance(op, ops.CumProd),
        is_exclusive=op.exclusive,
        is_reverse=op.reverse,
    )
    p.call(kernel, source, y, *lines(x.type, op.axis), node=node, title=f"along axis {op.axis} of {x.type}")


@lowers(ops.ArgMax, ops.ArgMin, needs=(NUMBERS,))
def _arg_extreme(p: Program, node: Node, op: ops.ArgMax | ops.ArgMin) -> None:
    (x,) = operands(node)
    source = p.at(x)
    y = p.result(node.output)
    if not node.output.type.size:
        return
    is_largest = isinstance(op, ops.ArgMax)
    kernel = ArgExtreme(ctype=ctype_of(x.type.dtype), is_largest=is_largest, is_last=op.select_last_index)
    title = f"where the {'largest' if is_largest else 'smallest'} of {x.type} are"
    p.call(kernel, source, y, *lines(x.type, op.axis), node=node, title=title)


def found(p: Program, v: Value) -> tuple[Pointer, Pointer]:
    """Where a result of unknown size is to be written, and where its sizes are."""
    return p.result(v), p.extents(v)


@lowers(ops.NonZero, needs=(LAST, NUMBERS))
def _nonzero(p: Program, node: Node, _: ops.NonZero) -> None:
    (x,) = operands(node)
    kernel = NonZero(ctype=ctype_of(x.type.dtype), shape=x.type.dims, strides=tuple(dense(x.type.dims)))
    p.call(kernel, p.at(x), *found(p, node.output), node=node, title=f"where {x.type} is not 0")


@lowers(ops.Compress, needs=(LAST,))
def _compress(p: Program, node: Node, op: ops.Compress) -> None:
    x, condition = operands(node)
    outer, length, inner = (1, x.type.size, 1) if op.axis is None else lines(x.type, op.axis)
    kernel = Compress(shape=largest(node.output).dims, axis=op.axis or 0)
    sizes = outer, length, inner * bytes_of(x.type.dtype), min(length, condition.type.size)
    given = p.at(x), p.at(condition)
    p.call(kernel, *given, *found(p, node.output), *sizes, node=node, title=f"what is to be kept of {x.type}")


@lowers(ops.Unique, needs=(LAST, NUMBERS))
def _unique(p: Program, node: Node, op: ops.Unique) -> None:
    (x,) = operands(node)
    sizes = (1, x.type.size, 1) if op.axis is None else lines(x.type, op.axis)
    shape: Ints = largest(node.outputs[0]).dims
    kernel = Unique(ctype=ctype_of(x.type.dtype), shape=shape, axis=op.axis or 0, is_sorted=op.sorted)
    source = p.at(x)
    results = [p.result(v) for v in node.outputs]
    extents = [p.extents(node.outputs[i]) for i in (0, 1, 3)]
    p.call(kernel, source, *results, *extents, *sizes, node=node, title=f"what differs in {x.type}")


@lowers(ops.NonMaxSuppression, needs=(LAST, types_of(0, 1, among=FLOATS, what="boxes and scores")))
def _non_max_suppression(p: Program, node: Node, op: ops.NonMaxSuppression) -> None:
    boxes, scores = operands(node)
    images, classes, count = scores.type.dims
    kernel = NonMaxSuppression(
        ctype=ctype_of(boxes.type.dtype),
        images=images,
        classes=classes,
        boxes=count,
        limit=max(min(op.limit, count), 0),
        overlap=op.overlap,
        threshold=op.threshold,
        centres=op.centres,
    )
    given = p.at(boxes), p.at(scores)
    seen = p.scratch(max(count, 1), "seen")
    p.call(kernel, *given, *found(p, node.output), seen, node=node, title=f"the best of {boxes.type} by {scores.type}")

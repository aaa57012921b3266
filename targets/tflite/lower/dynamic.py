"""Results whose size depends on data: outputs of the model, of which the runtime says how long they are.

All but the last operator work on what there may be at most.
"""

from __future__ import annotations

from math import inf, prod

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.op import Op
from compiler.target import Need, op_need
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import HELD, SOURCE, TABLE
from targets.tflite.model import Tensor

MOST_PAIRS = 128  # of image and class, each of which becomes operators of its own
MOST_COMPARED = 1 << 22  # pairs of elements that are compared

KNOWN = Need(
    text="operands of known size with at least one element and one axis",
    holds=lambda node: all(
        v is None or (v.type.is_static and v.type.rank and 0 not in v.type.shape) for v in node.inputs
    ),
    source=SOURCE,
    confidence="measured",
)
LAST = Need(
    text="results that are outputs of the model and read by no layer (compute with a mask of known size instead: "
    "Where, or a product with zeros)",
    holds=lambda node: all(v.type.is_static or not v.users for v in node.outputs),
    source=SOURCE,
)
GENERAL = (HELD, KNOWN, LAST)


def is_dynamic(v: Value) -> bool:
    """Whether a value of unknown size is a result of one of these operations."""
    return v.node is not None and type(v.node.op) in RESULTS


def _places(p: Lowering, condition: Tensor) -> Tensor:
    """The positions [found,rank] (int64) at which a condition holds; the shape is the largest that there may be."""
    return p.add("WHERE", [condition], "INT64", (prod(condition.shape), len(condition.shape)))


def _row(p: Lowering, places: Tensor) -> Tensor:
    """Positions [found,1] as a vector."""
    return p.add("RESHAPE", [places, p.ints([-1])], "INT64", places.shape[:1], NewShape=(-1,))


@TABLE.lowers(ops.NonZero, *GENERAL)
def _nonzero(p: Lowering, node: Node, op: ops.NonZero) -> None:
    (v,) = node.inputs
    assert v is not None
    x = p.get(v)
    places = _places(p, x if x.dtype == "BOOL" else p.binary("NOT_EQUAL", x, p.scalar(0, x.dtype)))
    p.bind(node.output, p.add("TRANSPOSE", [places, p.ints([1, 0])], "INT64", places.shape[::-1]))


@TABLE.lowers(ops.Compress, *GENERAL)
def _compress(p: Lowering, node: Node, op: ops.Compress) -> None:
    x, condition = p.operands(node)
    if op.axis is None:
        x = p.reshape(x, (prod(x.shape),))
    p.bind(node.output, p.take(x, _row(p, _places(p, condition)), op.axis or 0))


INTEGERS = Need(
    text="integers where the bounds are computed (the number of floats depends on the rounding of a quotient)",
    holds=lambda node: node.output.type.dtype.is_integer,
    source=SOURCE,
)


@TABLE.lowers(ops.Range, HELD, INTEGERS, LAST)
def _range(p: Lowering, node: Node, op: ops.Range) -> None:
    """The builtin wants a limit on that side of the start to which the step leads, and the runtime hands out no empty
    result of it itself: counted from 0, the start is added."""
    start, limit, step = (p.reshape(t, ()) for t in p.operands(node))
    up = p.binary("GREATER", step, p.scalar(0, step.dtype))
    end = p.select(up, p.binary("MAXIMUM", limit, start), p.binary("MINIMUM", limit, start))
    length = op.dim if isinstance(op.dim, int) else 1
    zero = p.scalar(0, start.dtype)
    steps = p.add("RANGE", [zero, p.binary("SUB", end, start), step], start.dtype, (length,))
    p.bind(node.output, p.binary("ADD", steps, start))


def _is_small(node: Node) -> bool:
    x, op = node.inputs[0], node.op
    assert x is not None and isinstance(op, ops.Unique)
    length = x.type.size if op.axis is None else x.type.dims[op.axis]
    return length * x.type.size <= MOST_COMPARED


SMALL = Need(text=f"at most {MOST_COMPARED} pairs of elements to compare", holds=_is_small)


@TABLE.lowers(ops.Unique, *GENERAL, SMALL)
def _unique(p: Lowering, node: Node, op: ops.Unique) -> None:
    """Every slice is compared with every other; the first of equals stands for them."""
    (v,) = node.inputs
    assert v is not None
    x, axis = p.get(v), op.axis or 0
    if op.axis is None:
        x = p.reshape(x, (v.type.size,))
    n = x.shape[axis]
    rows = p.transpose(x, [axis, *(i for i in range(len(x.shape)) if i != axis)])
    equal, less = _compared(p, p.reshape(rows, (n, v.type.size // n)))
    number, other = p.ints(np.arange(n)), p.ints(np.arange(n)[None])
    first = p.reduce("REDUCE_MIN", p.select(equal, p.spread(other, (n, n)), p.scalar(n, "INT32")), [1], keep=False)
    leads = p.binary("EQUAL", first, number)
    before = less if op.sorted else p.binary("LESS", other, p.reshape(first, (n, 1)))
    ahead = p.binary("LOGICAL_AND", before, p.reshape(leads, (1, n)))
    rank = p.reduce("SUM", p.cast(ahead, "INT32"), [1], keep=False)
    counts = p.reduce("SUM", p.cast(equal, "INT32"), [1], keep=False)
    # place k holds the number of the one leader of rank k
    holds = p.binary("LOGICAL_AND", p.binary("EQUAL", p.reshape(rank, (1, n)), p.ints(np.arange(n)[:, None])),
                     p.reshape(leads, (1, n)))  # fmt: skip
    leader = p.reduce("SUM", p.select(holds, p.spread(other, (n, n)), p.scalar(0, "INT32")), [1], keep=False)
    found = p.reduce("REDUCE_ANY", holds, [1], keep=False)
    chosen = p.take(leader, _row(p, _places(p, found)), 0)
    results = (p.take(x, chosen, axis), chosen, rank, p.take(counts, chosen, 0))
    for result, tensor in zip(node.outputs, results, strict=True):
        p.bind(result, tensor if result is node.outputs[0] else p.cast(tensor, "INT64"))


def _compared(p: Lowering, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows [n,m]: whether row i equals row j [n,n], and whether row j comes before row i, by the first element in
    which they differ."""
    n, m = rows.shape
    rows = p.numeric(rows)
    mine, theirs = p.reshape(rows, (n, 1, m)), p.reshape(rows, (1, n, m))
    differs, less = p.binary("NOT_EQUAL", mine, theirs), p.binary("LESS", theirs, mine)
    if m > 1:
        axis = p.scalar(2, "INT32")
        so_far = p.add("CUMSUM", [p.cast(differs, "INT32"), axis], "INT32", (n, n, m), Exclusive=True, Reverse=False)
        less = p.binary("LOGICAL_AND", less, p.binary("EQUAL", so_far, p.scalar(0, "INT32")))
    unequal = p.reduce("REDUCE_ANY", differs, [2], keep=False)
    return p.unary("LOGICAL_NOT", unequal), p.reduce("REDUCE_ANY", less, [2], keep=False)


def _has_few_pairs(node: Node) -> bool:
    scores = node.inputs[1]
    return scores is not None and prod(scores.type.dims[:2]) <= MOST_PAIRS


OVERLAP = op_need("an overlap threshold of at least 0", lambda op: op.overlap >= 0)
PAIRS = Need(text=f"at most {MOST_PAIRS} pairs of image and class", holds=_has_few_pairs)


@TABLE.lowers(ops.NonMaxSuppression, *GENERAL, PAIRS, OVERLAP)
def _non_max_suppression(p: Lowering, node: Node, op: ops.NonMaxSuppression) -> None:
    boxes, scores = p.operands(node)
    (images, classes, count), limit = scores.shape, min(op.limit, scores.shape[2])
    if limit <= 0:
        p.bind(node.output, p.filled(p.scalar(0, "INT64"), (0, 3)))
        return
    order = [(scores.dtype, scores.shape), ("INT32", scores.shape)]
    best, numbers = p.model.add("TOPK_V2", [scores, p.scalar(count, "INT32")], order)
    ranks = p.const(np.arange(count, 0, -1), "FLOAT32")
    if op.threshold > -inf:
        above = p.binary("GREATER", best, p.scalar(float(op.threshold)))
        ranks = p.select(above, p.spread(ranks, best.shape), p.scalar(-1.0))
    corners = _disjoint(p, _corners(p, boxes) if op.centres else boxes)
    kept, rows = [], []
    for n, c in np.ndindex(images, classes):
        own = _vector(p, numbers, n, c)
        rank = ranks if len(ranks.shape) == 1 else _vector(p, ranks, n, c)
        image = p.reshape(p.part(corners, 0, n, n + 1), (count, 4))
        chosen, number = _suppressed(p, p.take(image, own, 0), rank, limit, op.overlap)
        kept.append(p.binary("LESS", p.ints(np.arange(limit)), number))
        rows.append(p.take(own, chosen, 0))
    pairs = np.repeat(np.array(list(np.ndindex(images, classes))), limit, 0)
    table = p.concat([p.ints(pairs), p.reshape(p.concat(rows, 0), (len(pairs), 1))], 1)
    found = p.take(table, _row(p, _places(p, p.concat(kept, 0))), 0)
    p.bind(node.output, p.cast(found, "INT64"))


def _vector(p: Lowering, x: Tensor, n: int, c: int) -> Tensor:
    return p.reshape(p.cut(x, (n, c, 0), (n + 1, c + 1, x.shape[2])), (x.shape[2],))


def _suppressed(p: Lowering, boxes: Tensor, rank: Tensor, limit: int, overlap: float) -> tuple[Tensor, Tensor]:
    """Which of boxes that stand in the order of their scores are kept, and how many. The builtin leaves out an overlap
    of the threshold itself too, and of equal scores takes any first: hence the next number, and ranks for scores."""
    threshold = np.nextafter(np.float32(overlap), np.float32(inf))
    if threshold > 1:  # nothing overlaps that much
        above = p.reduce("SUM", p.cast(p.binary("GREATER", rank, p.scalar(0.0)), "INT32"), [0], keep=False)
        return p.ints(np.arange(limit)), p.binary("MINIMUM", above, p.scalar(limit, "INT32"))
    operands = [boxes, rank, p.scalar(limit, "INT32"), p.scalar(float(threshold)), p.scalar(0.0)]
    chosen, number = p.model.add("NON_MAX_SUPPRESSION_V4", operands, [("INT32", (limit,)), ("INT32", ())])
    return chosen, number


def _corners(p: Lowering, boxes: Tensor) -> Tensor:
    """Opposite corners of boxes that are given by centres and sizes; one of negative size overlaps nothing."""
    centre, size = p.split(boxes, [2, 2], 2)
    half = p.times(p.unary("RELU", size), 0.5)
    return p.concat([p.binary("SUB", centre, half), p.binary("ADD", centre, half)], 2)


def _disjoint(p: Lowering, boxes: Tensor) -> Tensor:
    """Boxes [N,B,4] of which those without an area, which the builtin would choose again and again, lie apart."""
    _, count, _ = boxes.shape
    first, second = p.split(boxes, [2, 2], 2)
    height, width = p.split(p.binary("SUB", first, second), [1, 1], 2)
    area = p.unary("ABS", p.binary("MUL", height, width))
    finite = p.binary("LESS", area, p.scalar(float(np.finfo(np.float32).max)))
    whole = p.binary("LOGICAL_AND", p.binary("GREATER", area, p.scalar(0.0)), finite)
    reach = p.select(whole, p.unary("ABS", boxes), p.scalar(0.0))
    unit = p.plus(p.reduce("REDUCE_MAX", reach, [1, 2]), 1.0)
    start = 2.0 * np.arange(1, count + 1)[:, None]
    apart = p.binary("MUL", unit, p.const(np.concatenate([start, start, start + 1, start + 1], 1)[None], "FLOAT32"))
    return p.select(whole, boxes, apart)


RESULTS: tuple[type[Op], ...] = (ops.NonZero, ops.Compress, ops.Unique, ops.NonMaxSuppression, ops.Range)

"""Operations that make their elements out of little: constants, ranges, shapes, masks, one-hot rows, running sums."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.op import Op
from compiler.tensor import DTYPES
from targets.coreml.lower.indexing import from_front
from targets.coreml.lower.lowering import Lowering
from targets.coreml.lower.table import FLOAT, NUMBER, lowers, makes
from targets.coreml.mil import Var


@lowers(ops.ConstantOfShape)
def _constant_of_shape(p: Lowering, node: Node, op: ops.ConstantOfShape) -> None:
    dtype = DTYPES[op.dtype]
    kind = p.dtype(dtype)
    value = p.program.const(np.array(op.value, dtype.numpy if kind != "int32" else np.int32), kind, name="value")
    p.bind(node.output, p.spread(value, op.shape))


@lowers(ops.ShapeOf, ops.SizeOf)
def _known(p: Lowering, node: Node, op: Op) -> None:
    """Read off the type of x: results of 64 bits that int32 holds."""
    (x,) = node.input_types
    assert x is not None
    data = np.asarray(op.evaluate(np.broadcast_to(np.int8(0), x.dims)))
    p.bind(node.output, p.constant(data, node.output.name or op.name, node.output.type.dtype))


@lowers(ops.Range, needs=[NUMBER, makes(lambda node: 4 * node.output.type.dims[0])])
def _range(p: Lowering, node: Node, op: ops.Range) -> None:
    """start + delta * (0, 1, 2 ...): how many there are is known, or the need of a known size is not met."""
    start, _, delta = (p.reshape(x, (1,)) for x in p.operands(node))
    steps = np.arange(node.output.type.dims[0])
    counted = p.ints(steps, "steps") if start.dtype == "int32" else p.floats(steps, "steps")
    p.finish(node, p.binary("add", p.binary("mul", counted, delta), start))


@lowers(ops.Trilu, needs=[makes(lambda node: prod(node.output.type.dims[-2:]))])
def _trilu(p: Lowering, node: Node, op: ops.Trilu) -> None:
    """A choice between x and 0; for floats a choice too, for a product would turn infinities into NaN."""
    (x,) = p.operands(node)
    kept = op.evaluate(np.ones(x.shape[-2:], bool))
    mask = p.program.const(np.asarray(kept), "bool", name="mask")
    zero = False if x.dtype == "bool" else 0 if x.dtype == "int32" else 0.0
    p.bind(node.output, p.select(mask, x, zero, x.dtype, node.output.name))


@lowers(ops.OneHot, needs=[makes(lambda node: 4 * getattr(node.op, "depth", 0))])
def _one_hot(p: Lowering, node: Node, op: ops.OneHot) -> None:
    """Each index compared with every position, then a choice between the two values."""
    index, values = node.inputs
    assert index is not None and values is not None
    rank = index.type.rank + 1
    i = from_front(p, p.cast(p[index], "int32"), op.depth)
    column = p.reshape(i, (*i.shape[: op.axis], 1, *i.shape[op.axis :]))
    positions = np.arange(op.depth).reshape([-1 if k == op.axis else 1 for k in range(rank)])
    hit = p.test("equal", column, p.ints(positions, "positions"))
    off, on = (_single(p, values, k, rank) for k in (0, 1))
    p.bind(node.output, p.select(hit, on, off, name=node.output.name))


def _single(p: Lowering, values: Value, k: int, rank: int) -> Var:
    return p.reshape(p.cut(p[values], 0, k, k + 1), [1] * rank)


@lowers(ops.Hardmax, needs=[FLOAT, makes(lambda node: 4 * max(node.output.type.dims))])
def _hardmax(p: Lowering, node: Node, op: ops.Hardmax) -> None:
    (x,) = p.operands(node)
    shape = [1 if i == op.axis else d for i, d in enumerate(x.shape)]
    best = p.add("reduce_argmax", {"x": x, "axis": op.axis, "keep_dims": True}, "int32", shape)
    positions = np.arange(x.shape[op.axis]).reshape([-1 if i == op.axis else 1 for i in range(len(x.shape))])
    p.bind(node.output, p.cast(p.test("equal", best, p.ints(positions, "positions")), x.dtype))


@lowers(ops.CumSum, needs=[NUMBER])
def _cumsum(p: Lowering, node: Node, op: ops.CumSum) -> None:
    (x,) = p.operands(node)
    p.finish(node, p.like(x, "cumsum", axis=op.axis, exclusive=op.exclusive, reverse=op.reverse))


@lowers(ops.CumProd, needs=[NUMBER])
def _cumprod(p: Lowering, node: Node, op: ops.CumProd) -> None:
    """log2 of the length doublings: each multiplies by the products of the elements that lie 1, 2, 4 ... before."""
    (x,) = p.operands(node)
    length, axis = x.shape[op.axis], op.axis
    one = 1 if x.dtype == "int32" else 1.0
    if op.exclusive:
        x = _shifted(p, x, axis, 1, op.reverse, one)
    step = 1
    while step < length:
        x = p.binary("mul", x, _shifted(p, x, axis, step, op.reverse, one))
        step *= 2
    p.finish(node, x)


def _shifted(p: Lowering, x: Var, axis: int, by: int, back: bool, fill: float) -> Var:
    """`x` moved `by` elements along an axis, towards its beginning if `back`, with `fill` where it came from."""
    length = x.shape[axis]
    by = min(by, length)
    block = [by if i == axis else d for i, d in enumerate(x.shape)]
    ones = p.spread(p.program.const(np.array(fill), x.dtype), block)
    if by == length:
        return ones
    kept = p.cut(x, axis, by, length) if back else p.cut(x, axis, 0, length - by)
    return p.concat([kept, ones] if back else [ones, kept], axis)

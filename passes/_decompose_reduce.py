"""Reductions, global pools and running products by simpler ones."""

from __future__ import annotations

from math import inf, prod

from compiler import ops
from compiler.graph import Value
from compiler.op import Op
from compiler.ops.reduce import Reduce
from compiler.tensor import F32, I32, I64
from passes._decompose import Layers, decomposes


def _wide(add: Layers, x: Value) -> Value:
    """What sums and functions are computed in: narrow floats, and integers that are no sum, as f32."""
    return add.cast(x, F32) if x.type.dtype.is_float and x.type.dtype.bits < 32 else x


def _summed(add: Layers, op: Reduce, x: Value) -> Value:
    return add(ops.ReduceSum(axes=op.axes, keepdims=op.keepdims), x)


def _through_floats(add: Layers, function: Op, total: Value) -> Value:
    """A function of a number; that of an integer is cut towards zero."""
    if total.type.dtype.is_float:
        return add(function, total)
    return add.cast(add(function, add.cast(total, F32)), total.type.dtype)


@decomposes(ops.ReduceL1, ops.ReduceSumSquare, ops.ReduceL2, ops.ReduceLogSum)
def _norm(add: Layers, op: Reduce, x: Value) -> Value | None:
    dtype = x.type.dtype
    if not dtype.is_float and dtype not in (I32, I64):
        return None
    wide = _wide(add, x)
    if isinstance(op, ops.ReduceL1):
        terms = add(ops.Abs(), wide)
    else:
        terms = wide if isinstance(op, ops.ReduceLogSum) else add(ops.Mul(), wide, wide)
    y = _summed(add, op, terms)
    if isinstance(op, ops.ReduceL2):
        y = _through_floats(add, ops.Sqrt(), y)
    elif isinstance(op, ops.ReduceLogSum):
        y = _through_floats(add, ops.Log(), y)
    return add.cast(y, dtype)


@decomposes(ops.ReduceMean)
def _integer_mean(add: Layers, op: Reduce, x: Value) -> Value | None:
    """The sum, divided and cut towards zero; in i32 if no sum can leave it, else in i64."""
    dtype, count = x.type.dtype, prod(x.type.dims[a] for a in op.axes)
    if not dtype.is_integer or (dtype.bits >= 32 and dtype not in (I32, I64)):
        return None
    wide = add.cast(x, I32 if count << dtype.bits <= 1 << 31 else I64)
    return add.cast(add(ops.Div(), _summed(add, op, wide), count), dtype)


@decomposes(ops.ReduceLogSumExp)
def _log_sum_exp(add: Layers, op: Reduce, x: Value) -> Value | None:
    """log(sum(exp(x - max))) + max, with 0 in place of an infinite max."""
    dtype = x.type.dtype
    if not dtype.is_float and dtype not in (I32, I64):
        return None
    wide = _wide(add, x) if dtype.is_float else add.cast(x, F32)
    top = add(ops.ReduceMax(axes=op.axes), wide)
    top = add(ops.Where(), add(ops.Less(), add(ops.Abs(), top), inf), top, 0.0)
    total = add(ops.ReduceSum(axes=op.axes), add(ops.Exp(), add(ops.Sub(), wide, top)))
    y = add(ops.Add(), add(ops.Log(), total), top)
    return add.cast(add.reshape(y, add.node.output.type.dims), dtype)


@decomposes(ops.GlobalAveragePool, ops.GlobalMaxPool, ops.GlobalLpPool)
def _global_pool(add: Layers, op: ops.GlobalAveragePool | ops.GlobalMaxPool | ops.GlobalLpPool, x: Value) -> Value:
    axes = tuple(range(2, x.type.rank))
    if not axes:
        return add(ops.Abs(), x) if isinstance(op, ops.GlobalLpPool) else x
    if not isinstance(op, ops.GlobalLpPool):
        return add(ops.ReduceMax(axes=axes) if isinstance(op, ops.GlobalMaxPool) else ops.ReduceMean(axes=axes), x)
    if op.p in (1, 2):
        return add(ops.ReduceL1(axes=axes) if op.p == 1 else ops.ReduceL2(axes=axes), x)
    wide = _wide(add, x)
    total = add(ops.ReduceSum(axes=axes), add(ops.Pow(), add(ops.Abs(), wide), float(op.p)))
    return add.cast(add(ops.Pow(), total, 1 / op.p), x.type.dtype)


@decomposes(ops.CumProd)
def _cumprod(add: Layers, op: ops.CumProd, x: Value) -> Value:
    """log2 of the length doublings: each multiplies by the products of the elements that lie 1, 2, 4 ... before."""
    wide, length, step = _wide(add, x), x.type.dims[op.axis], 1
    if op.exclusive:
        wide = _shifted(add, wide, op, 1)
    while step < length:
        wide = add(ops.Mul(), wide, _shifted(add, wide, op, step))
        step *= 2
    return add.cast(wide, x.type.dtype)


def _shifted(add: Layers, x: Value, op: ops.CumProd, by: int) -> Value:
    """`x` moved `by` elements along the axis, towards its beginning if reversed, with ones where it came from."""
    dims, axis = x.type.dims, op.axis
    length = dims[axis]
    ones = add.filled(1, x.type.dtype, [min(by, length) if i == axis else d for i, d in enumerate(dims)])
    if by >= length:
        return ones
    if op.reverse:
        return add(ops.Concat(axis=axis), add.cut(x, axis, by, length), ones)
    return add(ops.Concat(axis=axis), ones, add.cut(x, axis, 0, length - by))

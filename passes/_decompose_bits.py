"""Operations on the bits of integers by arithmetic, in the ring of their element type."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.op import Op
from compiler.ops.numeric import integer_range
from compiler.tensor import DTYPES, I32, DType
from passes._decompose import Layers, decomposes


@decomposes(ops.BitwiseNot)
def _not(add: Layers, op: Op, x: Value) -> Value:
    """The largest number (-1, if there are negative ones) less x."""
    dtype = x.type.dtype
    return add(ops.Sub(), add.const(-1 if dtype.kind == "i" else integer_range(dtype)[1], dtype), x)


BITS: dict[type[Op], tuple[Op, Op]] = {  # of bits as numbers, and as truths
    ops.BitwiseAnd: (ops.Min(), ops.And()),
    ops.BitwiseOr: (ops.Max(), ops.Or()),
    ops.BitwiseXor: (ops.Add(), ops.Xor()),
}


@decomposes(*BITS)
def _bitwise(add: Layers, op: Op, x: Value, y: Value) -> Value:
    """Bits are an axis of their own: quotients by powers of two, modulo 2. The sign stands apart."""
    dtype, dims = x.type.dtype, add.node.output.type.dims
    join, join_signs = BITS[type(op)]
    count = dtype.bits - (dtype.kind == "i")
    powers = add.const([1 << i for i in range(count)], dtype)
    operands = [add.reshape(add.expand(v, dims), (add.node.output.type.size, 1)) for v in (x, y)]
    bits = add(join, *(add(ops.Mod(), add(ops.Div(), _rest(add, v), powers), 2) for v in operands))
    bits = add(ops.Mod(), bits, 2) if isinstance(op, ops.BitwiseXor) else bits
    total = add(ops.ReduceSum(axes=(1,)), add(ops.Mul(), bits, powers))
    if dtype.kind == "i":
        sign = add(join_signs, *(add(ops.Less(), v, 0) for v in operands))
        total = add(ops.Where(), sign, add(ops.Add(), total, integer_range(dtype)[0]), total)
    return add.reshape(total, dims)


def _rest(add: Layers, x: Value) -> Value:
    """The bits of x but for the sign."""
    if x.type.dtype.kind == "u":
        return x
    return add(ops.Where(), add(ops.Less(), x, 0), add(ops.Sub(), x, integer_range(x.type.dtype)[0]), x)


@decomposes(ops.BitShift)
def _shift(add: Layers, op: ops.BitShift, x: Value, y: Value) -> Value:
    """A product with (LEFT), or a rounded-down quotient by (RIGHT), a power of two read from a table."""
    dtype, left = x.type.dtype, op.direction == "LEFT"
    bits = dtype.bits if left or dtype.kind == "u" else dtype.bits - 1
    powers = _powers(add, bits, dtype)
    place = add(ops.Max(), add(ops.Min(), y, bits - 1), 0)
    factor = add(ops.Gather(), powers, add.cast(place, I32))
    beyond = add(ops.Xor(), add(ops.Greater(), y, bits - 1), add(ops.Less(), y, 0))
    if left or dtype.kind == "u":
        moved = add(ops.Mul() if left else ops.Div(), x, factor)
        return add(ops.Where(), beyond, add.const(0, dtype), moved)
    negative = add(ops.Less(), x, 0)
    size = add(ops.Div(), add(ops.Where(), negative, add(ops.Sub(), add.const(-1, dtype), x), x), factor)
    size = add(ops.Where(), beyond, add.const(0, dtype), size)
    return add(ops.Where(), negative, add(ops.Sub(), add.const(-1, dtype), size), size)


def _powers(add: Layers, bits: int, dtype: DType) -> Value:
    """1, 2, 4 ... in the ring of the element type."""
    return add.const(np.array([1 << i for i in range(bits)], np.uint64).astype(dtype.numpy), dtype)


@decomposes(ops.BitCast)
def _bitcast(add: Layers, op: ops.BitCast, x: Value) -> Value | None:
    """Between integers, which wrap around, and from truths."""
    source, to = x.type.dtype, DTYPES[op.to]
    whole = to.is_integer and (source.is_integer or source.kind == "b")
    return add.cast(x, to) if whole else None

"""Integers: quotients, powers, shifts and bits, exact in the ring of the element type.

Values of 64 unsigned bits are held in int64 as the same bits; `ordered` maps them so that they compare as they should.
"""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.op import Op
from compiler.ops.layout import Order
from compiler.target import Need
from compiler.tensor import DTYPES, F16, F32, I32, U64, DType
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import FLOATS, INTEGER, MOST_RANK, lowers, operand_types
from targets.tflite.model import Tensor

TOP = -(1 << 63)  # the highest of 64 bits
EXPONENT = 7  # bits of an exponent up to which powers of 64-bit integers are exact


def together(p: Lowering, node: Node) -> tuple[list[Tensor], Order]:
    """The operands of an elementwise layer in the order of its result, ready to be broadcast."""
    order = p.result_order(node)
    return [p.aligned(v, order) for v in node.inputs if v is not None], order


def ordered(p: Lowering, x: Tensor, dtype: DType) -> Tensor:
    """Numbers that compare as those that `x` holds do; applied twice, `x` again."""
    return p.binary("ADD", x, p.scalar(TOP, "INT64")) if dtype is U64 else x


def magnitude(p: Lowering, x: Tensor) -> Tensor:
    """|x|; of 64-bit integers as the larger of x and -x."""
    if x.dtype in ("FLOAT32", "INT32"):
        return p.unary("ABS", x)
    return p.binary("MAXIMUM", x, p.binary("SUB", p.scalar(0, x.dtype), x))


# -- division ------------------------------------------------------------------------------------------------


def _divisor(p: Lowering, y: Tensor) -> Tensor:
    """y with 1 in place of 0, which kernels refuse."""
    if y.constant is not None and y.constant.array.all():
        return y
    return p.select(p.binary("EQUAL", y, p.scalar(0, y.dtype)), p.scalar(1, y.dtype), y)


def _unless_zero(p: Lowering, y: Tensor, result: Tensor) -> Tensor:
    """The result, but 0 where y is 0."""
    if y.constant is not None and y.constant.array.all():
        return result
    zero = p.scalar(0, y.dtype)
    return p.select(p.binary("EQUAL", y, zero), zero, result)


def _negative(p: Lowering, x: Tensor) -> Tensor:
    return p.binary("LESS", x, p.scalar(0, x.dtype))


def truncated_rest(p: Lowering, x: Tensor, y: Tensor) -> Tensor:
    """What is left of x when y is taken from it towards zero; the sign is that of x, and 0 divides as 1 does."""
    divisor = _divisor(p, y)
    rest = p.binary("FLOOR_MOD", x, divisor)
    whole = p.binary("EQUAL", rest, p.scalar(0, x.dtype))
    alike = p.binary("EQUAL", _negative(p, rest), _negative(p, x))
    return p.select(p.binary("LOGICAL_OR", whole, alike), rest, p.binary("SUB", rest, divisor))


def exact_quotient(p: Lowering, x: Tensor, y: Tensor, bits: int = 64) -> Tensor:
    """x / y in int64 where y divides x and the quotient has at most `bits` bits.

    Each estimate in float32 is wrong by less than 2^-22 of what is left, so that three of them reach 63 bits, and two
    reach 32; the last is within 1/2 of a whole number and rounds to it.
    """
    divisor = p.cast(y, "FLOAT32")
    total = None
    for last in reversed(range(3 if bits > 32 else 2)):
        estimate = p.binary("DIV", p.cast(x, "FLOAT32"), divisor)
        part = p.cast(p.unary("ROUND", estimate), "INT64")
        total = part if total is None else p.binary("ADD", total, part)
        if last:
            x = p.binary("SUB", x, p.binary("MUL", part, y))
    assert total is not None
    return total


def truncated_quotient(p: Lowering, x: Tensor, y: Tensor, bits: int = 64) -> Tensor:
    """x / y cut towards zero; a divisor of 0 gives 0."""
    divisor = _divisor(p, y)
    if x.dtype == "INT64":
        whole = p.binary("SUB", x, truncated_rest(p, x, divisor))
        return _unless_zero(p, y, exact_quotient(p, whole, divisor, bits))
    floor = p.binary("FLOOR_DIV", x, divisor)
    inexact = p.binary("NOT_EQUAL", p.binary("MUL", floor, divisor), x)
    differ = p.binary("NOT_EQUAL", _negative(p, x), _negative(p, divisor))
    up = p.cast(p.binary("LOGICAL_AND", inexact, differ), x.dtype)
    return _unless_zero(p, y, p.binary("ADD", floor, up))


def unsigned_quotient(p: Lowering, x: Tensor, y: Tensor) -> Tensor:
    """The quotient of 64 unsigned bits: twice that of half of x, corrected; 0 where y is 0."""
    one, zero = p.scalar(1, "INT64"), p.scalar(0, "INT64")
    large = _negative(p, y)
    divisor = p.binary("MAXIMUM", y, one)
    half = truncated_quotient(p, shifted_right(p, x, p.scalar(1, "INT64"), U64), divisor)
    double = p.binary("ADD", half, half)
    rest = p.binary("SUB", x, p.binary("MUL", double, divisor))
    more = p.binary("GREATER_EQUAL", ordered(p, rest, U64), ordered(p, divisor, U64))
    small = p.binary("ADD", double, p.cast(more, "INT64"))
    above = p.cast(p.binary("GREATER_EQUAL", ordered(p, x, U64), ordered(p, y, U64)), "INT64")
    return p.select(p.binary("EQUAL", y, zero), zero, p.select(large, above, small))


@lowers(ops.Div, needs=[operand_types(*FLOATS, *INTEGER)])
def _div(p: Lowering, node: Node, op: Op) -> None:
    (x, y), order = together(p, node)
    dtype = node.output.type.dtype
    if dtype.is_float:
        quotient = p.binary("DIV", x, y)
    else:
        quotient = unsigned_quotient(p, x, y) if dtype is U64 else truncated_quotient(p, x, y, dtype.bits)
    p.finish(node, quotient, order)


@lowers(ops.Mod, needs=[operand_types(*FLOATS, *INTEGER)])
def _mod(p: Lowering, node: Node, op: ops.Mod) -> None:
    (x, y), order = together(p, node)
    if node.output.type.dtype is U64:
        divisor = _divisor(p, y)
        rest = p.binary("SUB", x, p.binary("MUL", unsigned_quotient(p, x, divisor), divisor))
    elif x.dtype != "FLOAT32":
        rest = truncated_rest(p, x, y) if op.fmod else p.binary("FLOOR_MOD", x, _divisor(p, y))
    elif op.fmod:
        size = p.binary("FLOOR_MOD", magnitude(p, x), magnitude(p, y))
        rest = p.select(_negative(p, x), p.unary("NEG", size), size)
    else:
        rest = p.binary("FLOOR_MOD", x, y)
    p.finish(node, rest, order)


# -- powers --------------------------------------------------------------------------------------------------


@lowers(ops.Pow, needs=[operand_types(*FLOATS, *INTEGER)])
def _pow(p: Lowering, node: Node, op: Op) -> None:
    """Small constant powers are products."""
    (x, y), order = together(p, node)
    base, power = node.inputs
    assert base is not None and power is not None
    number = power.data.item() if power.data is not None and power.data.size == 1 else None
    same = node.output.type.shape == base.type.shape
    floats = x.dtype == "FLOAT32"
    if same and number in (1, 2, 3):
        p.finish(node, _product(p, x, int(number)), order)
    elif same and number == 0.5 and floats:
        p.finish(node, p.unary("SQRT", x), order)
    elif same and number == -0.5 and floats:
        p.finish(node, p.unary("RSQRT", x), order)
    elif floats:
        exponent = unsigned_to_float(p, y) if power.type.dtype is U64 else p.cast(y, "FLOAT32")
        p.finish(node, p.binary("POW", x, exponent), order)
    else:
        p.finish(node, _integer_power(p, x, y, power.type.dtype), order)


def _product(p: Lowering, x: Tensor, power: int) -> Tensor:
    """x to the power 1, 2 or 3."""
    square = p.binary("MUL", x, x) if power > 1 else x
    return p.binary("MUL", square, x) if power > 2 else square


def _integer_power(p: Lowering, x: Tensor, y: Tensor, dtype: DType) -> Tensor:
    """Integers to a power; to one that is no whole number, in float32, cut towards zero."""
    if y.dtype != "FLOAT32":
        return _whole_power(p, x, y, dtype)
    whole = p.cast(y, "INT32")
    exact = _whole_power(p, x, whole, I32)
    raised = p.binary("POW", p.cast(x, "FLOAT32"), y)
    near = p.unary("ROUND", raised)
    gap = p.unary("ABS", p.binary("SUB", raised, near))
    snaps = p.binary("LESS_EQUAL", gap, p.times(p.unary("ABS", raised), 1e-6))
    broken = p.cast(p.cast(p.select(snaps, near, raised), "INT32"), x.dtype)
    return p.select(p.binary("EQUAL", p.cast(whole, "FLOAT32"), y), exact, broken)


def _whole_power(p: Lowering, x: Tensor, y: Tensor, dtype: DType) -> Tensor:
    """x to a whole power, with the bits of the exponent one by one where no kernel raises it. Powers of exponents
    above 126 are 0, 1 and -1, or leave every element type."""
    low = 0 if dtype.kind == "u" or (y.constant is not None and not (y.constant.array < 0).any()) else None
    size = y if low == 0 else magnitude(p, y)
    top = 2**EXPONENT - 2
    parity = p.binary("FLOOR_MOD", size, p.scalar(2, y.dtype))
    size = p.binary("MINIMUM", size, p.plus(parity, top)) if y.constant is None else size
    size = p.cast(size, "INT32")
    power = p.binary("POW", x, size) if x.dtype == "INT32" else _by_squaring(p, x, size)
    if low == 0:
        return power
    unit = p.binary("EQUAL", magnitude(p, x), p.scalar(1, x.dtype))
    kept = p.binary("LOGICAL_OR", unit, p.binary("GREATER_EQUAL", y, p.scalar(0, y.dtype)))
    return p.select(kept, power, p.scalar(0, x.dtype))


def _by_squaring(p: Lowering, x: Tensor, exponent: Tensor) -> Tensor:
    one, total = p.scalar(1, x.dtype), None
    for i in range(EXPONENT):
        bit = p.binary("FLOOR_MOD", exponent, p.scalar(2, "INT32"))
        factor = p.select(p.binary("EQUAL", bit, p.scalar(1, "INT32")), x, one)
        total = factor if total is None else p.binary("MUL", total, factor)
        if i + 1 < EXPONENT:
            x = p.binary("MUL", x, x)
            exponent = p.binary("RIGHT_SHIFT", exponent, p.scalar(1, "INT32"))
    assert total is not None
    return total


# -- shifts --------------------------------------------------------------------------------------------------


def shifted_right(p: Lowering, x: Tensor, by: Tensor, dtype: DType) -> Tensor:
    """x in int64, shifted by 0 to 63 bits (of u64: zeros come in)."""
    if dtype is not U64:
        return _divided(p, x, by)
    low = p.select(_negative(p, x), ordered(p, x, U64), x)
    top = p.take(_powers(p, range(63, -1, -1)), p.cast(by, "INT32"), 0)
    lifted = p.select(_negative(p, x), top, p.scalar(0, "INT64"))
    return p.binary("ADD", _divided(p, low, by), lifted)


def _divided(p: Lowering, x: Tensor, by: Tensor) -> Tensor:
    """x / 2^by rounded down, for 0 to 63."""
    power = p.take(_powers(p, (*range(63), 62)), p.cast(by, "INT32"), 0)
    whole = p.binary("SUB", x, p.binary("FLOOR_MOD", x, power))
    sign = p.binary("SUB", p.scalar(0, "INT64"), p.cast(_negative(p, x), "INT64"))
    all_but_sign = p.binary("GREATER", by, p.scalar(62, by.dtype))
    return p.select(all_but_sign, sign, exact_quotient(p, whole, power))


def _powers(p: Lowering, exponents: range | tuple[int, ...], dtype: str = "INT64") -> Tensor:
    """Powers of two, wrapped to the element type; none for an exponent below 0."""
    values = np.array([1 << e if e >= 0 else 0 for e in exponents], np.uint64).view(np.int64)
    return p.const(values.astype(np.int32) if dtype == "INT32" else values, dtype)


@lowers(ops.BitShift, needs=[operand_types(*INTEGER)])
def _bit_shift(p: Lowering, node: Node, op: ops.BitShift) -> None:
    """To the left a product with a power of two from a table; beyond its width nothing but the sign is left."""
    (x, y), order = together(p, node)
    dtype = node.output.type.dtype
    bits = dtype.bits
    end = p.scalar(bits, y.dtype)
    beyond = p.binary("GREATER_EQUAL", y, end)
    if dtype.kind == "i" or dtype is U64:
        beyond = p.binary("LOGICAL_OR", beyond, _negative(p, y))
    by = p.select(beyond, end, y)
    if op.direction == "LEFT":
        powers = _powers(p, (*range(bits), -1), x.dtype)
        p.finish(node, p.binary("MUL", x, p.take(powers, p.cast(by, "INT32"), 0)), order)
        return
    by = p.binary("MINIMUM", by, p.scalar(31 if x.dtype == "INT32" else 63, by.dtype))
    if x.dtype == "INT32":
        p.finish(node, p.binary("RIGHT_SHIFT", x, by), order)
        return
    y = shifted_right(p, x, by, dtype)
    p.finish(node, p.select(beyond, p.scalar(0, "INT64"), y) if dtype is U64 else y, order)


# -- bits ----------------------------------------------------------------------------------------------------


def _bitcast(p: Lowering, x: Tensor, dtype: str, shape: tuple[int, ...]) -> Tensor:
    return p.add("BITCAST", [x], dtype, shape)


def _words(p: Lowering, x: Tensor, dtype: str) -> Tensor:
    """The bits of a 32 or 64-bit integer as numbers of 16 (or 32) bits along a last axis, in int32."""
    count = (8 if x.dtype == "INT64" else 4) // (2 if dtype == "UINT16" else 4)
    return p.cast(_bitcast(p, x, dtype, (*x.shape, count)), "INT32")


@lowers(ops.BitwiseXor, ops.BitwiseAnd, ops.BitwiseOr, needs=[operand_types(*INTEGER)])
def _bitwise(p: Lowering, node: Node, op: Op) -> None:
    """a + b is the exclusive or plus twice the and: exact on numbers of 16 bits, into which wider ones are cut."""
    (x, y), order = together(p, node)
    xor = isinstance(op, ops.BitwiseXor)
    dtype = x.dtype
    word = "INT32" if xor else "UINT16"
    cut = dtype == "INT64" or (not xor and node.output.type.dtype.bits > 16)
    shape = np.broadcast_shapes(x.shape, y.shape)
    if cut:
        if len(shape) == MOST_RANK:
            x, y = (p.reshape(p.spread(t, shape), (prod(shape),)) for t in (x, y))
        x, y = _words(p, x, word), _words(p, y, word)
    z = p.binary("BITWISE_XOR", x, y)
    if not xor:
        total = p.binary("ADD", x, y)
        twice = p.binary("ADD" if isinstance(op, ops.BitwiseOr) else "SUB", total, z)
        z = p.binary("RIGHT_SHIFT", twice, p.scalar(1, "INT32"))
    if cut:
        z = p.reshape(_bitcast(p, p.cast(z, word), dtype, z.shape[:-1]), shape)
    p.finish(node, z, order)


@lowers(ops.BitwiseNot, needs=[operand_types(*INTEGER)])
def _bitwise_not(p: Lowering, node: Node, op: Op) -> None:
    """-1 - x, in the ring of the element type."""
    (x,), order = together(p, node)
    p.finish(node, p.binary("SUB", p.scalar(-1, x.dtype), x), order)


def _readable(node: Node) -> bool:
    kinds = [v.type.dtype for v in (*node.inputs, *node.outputs) if v is not None]
    return all(not k.is_float or k in (F16, F32) for k in kinds)


BITS = Need(
    text="elements other than double and bfloat16, which are held in float32 (Cast converts the number)",
    holds=_readable,
)
TWIN = {F32: "INT32", F16: "INT16"}  # integers of the same bits


@lowers(ops.BitCast, needs=[BITS])
def _bit_cast(p: Lowering, node: Node, op: ops.BitCast) -> None:
    (v,) = node.inputs
    assert v is not None
    source, to, order = v.type.dtype, DTYPES[op.to], p.result_order(node)
    x = p.get(v, order)
    if source in TWIN:
        x = p.cast(x, "FLOAT16") if source is F16 else x
        x = _bitcast(p, x, TWIN[source], x.shape) if to is not source else x
    if to in TWIN:
        x = x if source in TWIN else p.cast(x, TWIN[to])
        exact = _bitcast(p, x, "FLOAT16" if to is F16 else "FLOAT32", x.shape) if source is not to else x
        p.bind(node.output, p.cast(exact, "FLOAT32"), order)
    elif to.kind == "b":
        p.bind(node.output, p.cast(x, "BOOL"), order)
    else:
        p.finish(node, p.cast(x, p.dtype(to)), order)


# -- conversion ----------------------------------------------------------------------------------------------


def unsigned_to_float(p: Lowering, x: Tensor) -> Tensor:
    """64 unsigned bits as float32: of numbers with the highest bit, twice the half, rounded to odd."""
    half = shifted_right(p, x, p.scalar(1, "INT64"), U64)
    last = p.binary("FLOOR_MOD", x, p.scalar(2, "INT64"))
    even = p.binary("SUB", half, p.binary("FLOOR_MOD", half, p.scalar(2, "INT64")))
    odd = p.binary("MAXIMUM", half, p.binary("ADD", even, last))
    return p.select(_negative(p, x), p.times(p.cast(odd, "FLOAT32"), 2.0), p.cast(x, "FLOAT32"))


def float_to_unsigned(p: Lowering, x: Tensor) -> Tensor:
    """Float32 cut to 64 unsigned bits."""
    high = p.binary("GREATER_EQUAL", x, p.scalar(2.0**63))
    low = p.cast(p.select(high, p.plus(x, -(2.0**63)), x), "INT64")
    return p.select(high, ordered(p, low, U64), low)


def converted(p: Lowering, v: Value, x: Tensor, to: DType) -> Tensor:
    """Numbers in an integer element type; integers lose their upper bits."""
    source = v.type.dtype
    if to is U64 and source.is_float:
        return float_to_unsigned(p, x)
    whole = p.cast(x, p.dtype(to))
    fits = source.kind == "b" or (source.kind == "u" and source.bits < to.bits)
    return whole if fits else p.wrapped(whole, to)

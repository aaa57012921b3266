"""Quantization by the arithmetic that it stands for, and products of 8-bit integers by exact sums of floats."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.ops.integer import IntegerConvolution
from compiler.ops.numeric import integer_range
from compiler.ops.quant import Quantization
from compiler.tensor import BF16, DTYPES, F16, F32, F64, I32, U8, DType
from passes._decompose import decomposes
from passes._terms import Term, formula

EXACT = 1 << 24  # whole numbers up to here are exact in f32
BYTE = 255  # the largest difference of two of 8 bits


def _spread(op: Quantization, parameter: Term, dims: tuple[int, ...]) -> Term:
    """A scale or zero point, so that it broadcasts to a tensor of this shape."""
    if op.axis is None or not parameter.dims or (parameter.dims == (1,) and not op.block_size):
        return parameter.reshape()
    if not op.block_size:
        return parameter.reshape(*(d if i == op.axis else 1 for i, d in enumerate(dims)))
    blocks = parameter.const(np.arange(dims[op.axis]) // op.block_size, I32)
    return parameter.take(blocks, op.axis)


def _saturated(x: Term, dtype: DType) -> Term:
    """Whole floats, limited to the range of an integer type."""
    low, high = integer_range(dtype)
    return x.clip(low, high).cast(dtype)


@decomposes(ops.QuantizeLinear)
@formula
def _quantize(op: ops.QuantizeLinear, x: Term, scale: Term, zero: Term | None = None) -> Term | None:
    """A quotient in 16 bits is rounded to them before it is rounded to a whole number."""
    dtype, precision = DTYPES[op.dtype], DTYPES[op.precision] if op.precision else scale.dtype
    if not dtype.is_integer or dtype.bits > 16 or precision not in (F16, F32, F64):
        return None
    wide = F64 if precision is F64 else F32
    divisor = _spread(op, scale, x.dims).cast(precision).cast(wide)
    y = (x.cast(precision).cast(wide) / divisor).cast(precision).cast(wide).round()
    shift = _shift(op, zero, x.dims, wide)
    if shift is not None:
        y = y + shift
    return _saturated(y, dtype)


@decomposes(ops.DequantizeLinear)
@formula
def _dequantize(op: ops.DequantizeLinear, x: Term, scale: Term, zero: Term | None = None) -> Term | None:
    """Differences of 32-bit integers are formed as integers, others as floats."""
    target = DTYPES[op.dtype] if op.dtype else scale.dtype
    if not x.dtype.is_integer or target is BF16:
        return None
    wide = F64 if target is F64 else F32
    y = x.cast(I32) if x.dtype.bits > 16 else (_before_cut(x) or x).cast(wide)
    shift = _shift(op, zero, x.dims, y.dtype)
    if shift is not None:
        y = y - shift
    return (y.cast(wide) * _spread(op, scale.cast(wide), x.dims)).cast(target)


def _shift(op: Quantization, zero: Term | None, dims: tuple[int, ...], dtype: DType) -> Term | None:
    """A zero point that broadcasts; None if it is absent or known to be 0."""
    if zero is None or (zero.value.data is not None and not np.asarray(zero.value.data).any()):
        return None
    return _spread(op, zero.cast(dtype), dims)


def _before_cut(x: Term) -> Term | None:
    """The floats that became the integers x, if they were whole numbers in range: what `_saturated` makes of rounded
    ones."""
    cut = x.value.node
    if cut is None or not isinstance(cut.op, ops.Cast) or cut.inputs[0] is None:
        return None
    limited = cut.inputs[0].node
    if limited is None or not isinstance(limited.op, ops.Clip) or limited.inputs[0] is None:
        return None
    whole = limited.inputs[0].node
    if whole is not None and isinstance(whole.op, ops.Add) and whole.inputs[0] is not None:
        shift = whole.inputs[1]
        known = shift is not None and shift.data is not None and bool((np.rint(shift.data) == shift.data).all())
        whole = whole.inputs[0].node if known else None
    fits = (limited.op.low, limited.op.high) == integer_range(x.dtype)
    rounded = whole is not None and isinstance(whole.op, ops.Round)
    return Term(x.add, cut.inputs[0]) if fits and rounded else None


@decomposes(ops.DynamicQuantizeLinear)
@formula
def _dynamic(op: ops.DynamicQuantizeLinear, x: Term) -> tuple[Term, Term, Term]:
    """255 steps over the range, 0 included; where the range is empty, 1 divides."""
    flat = x.reshape(x.value.type.size)
    low = flat.via(ops.ReduceMin(axes=(0,), keepdims=False)).clip(-np.inf, 0)
    high = flat.via(ops.ReduceMax(axes=(0,), keepdims=False)).clip(0, np.inf)
    scale = (high - low) / 255
    divisor = scale.equals(0).choose(scale.const(1.0), scale)
    zero = ((low * -1) / divisor).round().clip(0, 255)
    return _saturated((x / divisor).round() + zero, U8), scale, zero.cast(U8)


def _centred(x: Term, zero: Term | None, shape: tuple[int, ...] = ()) -> Term:
    """x - zero in f32; one zero point, or several under a shape that broadcasts."""
    wide = x.cast(F32)
    if zero is None:
        return wide
    return wide - zero.cast(F32).reshape(*(shape if prod(zero.dims) > 1 else ()))


def _row(v: Term) -> tuple[int, ...]:
    """The shape in which numbers per row, if they are a vector, broadcast over a matrix."""
    return (*v.dims, 1) if len(v.dims) == 1 else v.dims


def _product(x: Term, y: Term) -> Term:
    """The product of whole numbers of 9 bits, in pieces whose sums are exact; i32."""
    length, most = x.dims[-1], EXACT // BYTE**2
    axis = max(len(y.dims) - 2, 0)
    parts = [
        x.part(len(x.dims) - 1, k, min(k + most, length)).via(ops.MatMul(), y.part(axis, k, min(k + most, length)))
        for k in range(0, length, most)
    ]
    return _whole(parts)


def _whole(parts: list[Term]) -> Term:
    """The sum of floats that are whole numbers, as i32."""
    result = parts[0].cast(I32)
    for part in parts[1:]:
        result = result + part.cast(I32)
    return result


def _convolution(op: IntegerConvolution, x: Term, w: Term) -> Term | None:
    """The convolution of centred operands, over as many channels at a time as keep its sums exact; i32."""
    window = prod(w.dims[2:])
    largest = BYTE if w.value.data is None else int(np.abs(w.value.data).max(initial=1))
    most = EXACT // (BYTE * largest * window)
    depth = w.dims[1]
    if not most:
        return None
    conv = ops.Conv(strides=op.strides, pads=op.pads, dilations=op.dilations, groups=op.groups)
    if depth <= most:
        return x.via(conv, w).cast(I32)
    n, _, *spatial = x.dims
    grouped = x.reshape(n, op.groups, depth, *spatial)
    parts = []
    for k in range(0, depth, most):
        end = min(k + most, depth)
        some = grouped.part(2, k, end).reshape(n, op.groups * (end - k), *spatial)
        parts.append(some.via(conv, w.part(1, k, end)))
    return _whole(parts)


def _requantized(total: Term, factor: Term, zero: Term) -> Term:
    """Saturated total * factor + zero, halves to even, in the element type of the zero point."""
    return _saturated((total.cast(F32) * factor).round() + zero.cast(F32).reshape(), zero.dtype)


@decomposes(ops.ConvInteger)
@formula
def _conv_integer(
    op: ops.ConvInteger, x: Term, w: Term, x_zero: Term | None = None, w_zero: Term | None = None
) -> Term | None:
    filters = (w.dims[0], *[1] * (len(w.dims) - 1))
    return _convolution(op, _centred(x, x_zero), _centred(w, w_zero, filters))


@decomposes(ops.QLinearConv)
@formula
def _qlinear_conv(
    op: ops.QLinearConv,
    x: Term,
    x_scale: Term,
    x_zero: Term,
    w: Term,
    w_scale: Term,
    w_zero: Term,
    scale: Term,
    zero: Term,
    b: Term | None = None,
) -> Term | None:
    over = [1] * (len(w.dims) - 2)
    y = _convolution(op, _centred(x, x_zero), _centred(w, w_zero, (w.dims[0], 1, *over)))
    if y is None:
        return None
    if b is not None:
        y = y + b.reshape(w.dims[0], *over)
    factor = x_scale.reshape() * w_scale / scale.reshape()
    return _requantized(y, factor.reshape(prod(factor.dims), *over), zero)


@decomposes(ops.MatMulInteger)
@formula
def _matmul_integer(
    op: ops.MatMulInteger, x: Term, y: Term, x_zero: Term | None = None, y_zero: Term | None = None
) -> Term:
    return _product(
        _centred(x, x_zero, _row(x_zero) if x_zero else ()), _centred(y, y_zero, y_zero.dims if y_zero else ())
    )


@decomposes(ops.QLinearMatMul)
@formula
def _qlinear_matmul(
    op: ops.QLinearMatMul,
    x: Term,
    x_scale: Term,
    x_zero: Term,
    y: Term,
    y_scale: Term,
    y_zero: Term,
    scale: Term,
    zero: Term,
) -> Term:
    total = _product(_centred(x, x_zero, _row(x_zero)), _centred(y, y_zero, y_zero.dims))
    rows = x_scale.cast(F32).reshape(*_row(x_scale))
    return _requantized(total, rows * y_scale.cast(F32) / scale.cast(F32), zero)

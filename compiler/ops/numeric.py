"""Numbers as the reference meanings of operations need them: wide enough to compute in, converted as ONNX says."""

from __future__ import annotations

import numpy as np

from compiler.tensor import STRING, Array, DType, dtype_of

WIDE = (np.dtype(np.float32), np.dtype(np.float64))
LARGEST = {"f8e4m3fn": 448.0, "f8e4m3fnuz": 240.0, "f8e5m2": 57344.0, "f8e5m2fnuz": 57344.0}


def kind_of(x: Array) -> str:
    """The DType kind of an array; numpy itself calls the element types of ml_dtypes void."""
    return x.dtype.kind if x.dtype.kind != "V" else dtype_of(x).kind


def widen(x: Array) -> Array:
    """Floats of fewer than 32 bits as float32, the rest as it is."""
    return x if x.dtype in WIDE or kind_of(x) != "f" else x.astype(np.float32)


def integer_range(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest value of an integer element type."""
    return (-(1 << dtype.bits - 1), (1 << dtype.bits - 1) - 1) if dtype.kind == "i" else (0, (1 << dtype.bits) - 1)


def convert(x: Array, to: DType, *, saturate: bool = True, round_mode: str = "up") -> Array:
    """x in another element type, as ONNX Cast-28 does it.

    Floats become integers towards zero, integers lose their upper bits. With `saturate`, what is too large for an
    8-bit float (infinity included) becomes its largest value, else infinity or NaN. `round_mode` (up, down, nearest)
    is for powers of two (f8e8m0).
    """
    with np.errstate(all="ignore"):
        if x.dtype.kind in "OUS":
            return _parsed(x, to)
        if to is STRING:
            return _printed(x)
        if to.name == "f8e8m0":
            return _power_of_two(x.astype(np.float32), to, saturate, round_mode)
        if to.is_float and to.bits == 8 and saturate:
            return np.clip(widen(x), -LARGEST[to.name], LARGEST[to.name]).astype(to.numpy)
        wide = x.astype(np.float32) if x.dtype.kind == "V" and to.kind == "b" else x
        return wide.astype(to.numpy, copy=False)


def _parsed(x: Array, to: DType) -> Array:
    texts = [str(v) for v in x.reshape(-1).tolist()]
    if to is STRING:
        return x
    if to.is_integer:
        numbers = [int(t) if t.strip().lstrip("+-").isdigit() else int(float(t)) for t in texts]
        return np.array(numbers, np.int64 if to.kind == "i" else np.uint64).reshape(x.shape).astype(to.numpy)
    return np.array([float(t) for t in texts], np.float64).reshape(x.shape).astype(to.numpy)


def _printed(x: Array) -> Array:
    out = np.empty(x.shape, object)
    out.reshape(-1)[:] = [str(v) for v in widen(x).reshape(-1).astype(np.str_).tolist()]
    return out


def _power_of_two(x: Array, to: DType, saturate: bool, round_mode: str) -> Array:
    mantissa, exponent = np.frexp(np.abs(x))  # |x| = mantissa * 2**exponent, mantissa in [0.5, 1)
    above = mantissa > 0.5 if round_mode == "up" else mantissa >= (0.75 if round_mode == "nearest" else 1)
    code = exponent.astype(np.int64) + 126 + above
    code = np.where(x == 0, 0 if saturate else 255, code)
    code = np.clip(code, 0, 254) if saturate else np.where((code < 0) | (code > 254), 255, code)
    return np.where(np.isfinite(x), code, 255).astype(np.uint8).view(to.numpy)

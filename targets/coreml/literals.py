"""Python values as constants of a program: their element type, and when two of them are one constant."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from compiler.errors import EmitError
from compiler.tensor import Array
from targets.coreml.dtypes import TYPES, type_of

WEIGHT_FILE_FROM = 10
"""Elements; smaller constants are written into the program, as coremltools does."""


def narrow(array: Array, dtype: str | None) -> Array:
    """`array` with 64-bit numbers made 32-bit; EmitError if an integer does not fit."""
    if array.dtype == np.float64 and dtype is None:
        return array.astype(np.float32)
    if array.dtype.kind in "iu" and dtype != "int64":
        wanted = TYPES[dtype or type_of(array.dtype)]
        if wanted.numpy.kind in "iu" and array.size and (wanted.packed or array.dtype != wanted.numpy):
            signed = wanted.numpy.kind == "i"
            low, high = (-1 << (wanted.bits - 1)) * signed, (1 << (wanted.bits - signed)) - 1
            if array.min() < low or array.max() > high:
                raise EmitError(f"a constant holds integers that do not fit Core ML's {wanted.name}")
            return array.astype(wanted.numpy)
    return array


def constant_identity(data: Array | str, dtype: str, key: Hashable) -> Hashable:
    """What two constants share if and only if they are one: content of small ones, key or object of large ones."""
    if isinstance(data, str):
        return data
    if key is not None:
        return (dtype, "key", key)
    if data.size < WEIGHT_FILE_FROM:
        return (dtype, data.shape, data.tobytes())
    return (dtype, id(data))


def is_float_literal(operand: object) -> bool:
    """True for a Python float and for a sequence with one, whose element type is open."""
    if isinstance(operand, float) and not isinstance(operand, np.generic):
        return True
    if isinstance(operand, (list, tuple)):
        return any(isinstance(item, float) for item in operand)
    return False

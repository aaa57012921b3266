"""Element types of MIL: their name in MIL text, their codes in the two file formats, and how numpy holds them.

Codes: `DataType` of MIL.proto and the records of weight.bin as coremltools 9.0 writes them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.errors import EmitError
from compiler.tensor import Array

MAX_RANK = 5  # of tensors and multi-arrays


class ElementType(NamedTuple):
    """One element type; sub-byte integers are held unpacked, one element a byte, in `numpy`."""

    name: str
    proto: int
    blob: int | None
    bits: int
    numpy: np.dtype[np.generic]
    field: str

    @property
    def packed(self) -> bool:
        """True if several elements share a byte in the files."""
        return self.bits < 8 and self.name != "bool"


def _table(*rows: tuple[str, int, int | None, int, type[np.generic], str]) -> dict[str, ElementType]:
    return {row[0]: ElementType(row[0], row[1], row[2], row[3], np.dtype(row[4]), row[5]) for row in rows}


TYPES = _table(
    ("bool", 1, None, 1, np.bool_, "bools"),
    ("string", 2, None, 0, np.str_, "strings"),
    ("fp16", 10, 1, 16, np.float16, "bytes"),
    ("fp32", 11, 2, 32, np.float32, "floats"),
    ("fp64", 12, None, 64, np.float64, "doubles"),
    ("int4", 25, 8, 4, np.int8, "bytes"),
    ("int8", 21, 4, 8, np.int8, "bytes"),
    ("int16", 22, 6, 16, np.int16, "ints"),
    ("int32", 23, 14, 32, np.int32, "ints"),
    ("int64", 24, None, 64, np.int64, "longInts"),
    ("uint1", 37, 9, 1, np.uint8, "bytes"),
    ("uint2", 36, 10, 2, np.uint8, "bytes"),
    ("uint3", 39, 12, 3, np.uint8, "bytes"),
    ("uint4", 35, 11, 4, np.uint8, "bytes"),
    ("uint6", 38, 13, 6, np.uint8, "bytes"),
    ("uint8", 31, 3, 8, np.uint8, "bytes"),
    ("uint16", 32, 7, 16, np.uint16, "ints"),
    ("uint32", 33, 15, 32, np.uint32, "bytes"),
    ("uint64", 34, None, 64, np.uint64, "longInts"),
)
BY_PROTO = {t.proto: t for t in TYPES.values()}
BY_BLOB = {t.blob: t for t in TYPES.values() if t.blob is not None}
_OF_NUMPY = {
    np.dtype(np.bool_): "bool",
    np.dtype(np.float16): "fp16",
    np.dtype(np.float32): "fp32",
    np.dtype(np.float64): "fp32",
    np.dtype(np.int8): "int8",
    np.dtype(np.int16): "int16",
    np.dtype(np.int32): "int32",
    np.dtype(np.int64): "int32",
    np.dtype(np.uint8): "uint8",
    np.dtype(np.uint16): "uint16",
    np.dtype(np.uint32): "uint32",
}


def type_of(dtype: np.dtype[np.generic]) -> str:
    """The MIL type of a numpy array; 64-bit integers and floats become 32-bit ones, which is what Core ML computes
    with.
    """
    try:
        return _OF_NUMPY[dtype]
    except KeyError:
        raise EmitError(f"Core ML has no constants of element type {dtype}") from None


def cast(values: Array, dtype: np.dtype[np.generic]) -> tuple[Array, bool]:
    """`values` as `dtype`, in the order of their memory, and whether finite elements became infinite."""
    if values.dtype == dtype:
        return values, False
    try:
        with np.errstate(over="raise", under="ignore"):
            return values.astype(dtype), False
    except FloatingPointError:
        with np.errstate(over="ignore", under="ignore"):
            return values.astype(dtype), True


def pack_bits(values: Array, bits: int) -> bytes:
    """Elements of `bits` bits each (two's complement if signed), least significant bit first, the last byte filled with
    zeros.
    """
    as_bits = np.unpackbits(
        np.ascontiguousarray(values).view(np.uint8).reshape(-1, 1), axis=1, count=bits, bitorder="little"
    )
    return np.packbits(as_bits.reshape(-1), bitorder="little").tobytes()


def unpack_bits(raw: bytes | Array, element: ElementType, count: int) -> Array:
    """The inverse of `pack_bits`: `count` elements, one a byte, sign-extended for signed types."""
    as_bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=count * element.bits, bitorder="little")
    values = np.packbits(as_bits.reshape(count, element.bits), axis=1, bitorder="little").reshape(-1)
    if element.numpy.kind == "i":
        shift = 8 - element.bits
        return (values << shift).view(np.int8) >> shift
    return values

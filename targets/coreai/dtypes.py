"""Element types of the dialect: how its notation names them, and how numpy holds them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.errors import EmitError
from compiler.tensor import Array

MAX_RANK = 8


class ElementType(NamedTuple):
    """One element type; sub-byte integers are held unpacked, one element a byte, in `numpy`."""

    mlir: str
    numpy: np.dtype[np.generic]
    bits: int


def _integer(sign: str, bits: int) -> ElementType:
    kind = np.dtype(f"{'int' if sign == 's' else 'uint'}{max(bits, 8)}")
    return ElementType(f"{sign}i{bits}", kind, bits)


TYPES = {
    "bool": ElementType("i1", np.dtype(np.bool_), 8),
    "fp16": ElementType("f16", np.dtype(np.float16), 16),
    "fp32": ElementType("f32", np.dtype(np.float32), 32),
    **{f"int{n}": _integer("s", n) for n in (4, 8, 16, 32, 64)},
    **{f"uint{n}": _integer("u", n) for n in (1, 2, 3, 4, 6, 8, 16, 32, 64)},
}
NAMES = {  # our element types, where they are held as they are
    "i8": "int8", "u8": "uint8", "i16": "int16", "u16": "uint16", "i32": "int32", "u32": "uint32",
}  # fmt: skip
_OF_NUMPY = {t.numpy: name for name, t in TYPES.items() if t.bits >= 8}


def type_of(dtype: np.dtype[np.generic]) -> str:
    """The element type of a numpy array."""
    try:
        return _OF_NUMPY[dtype]
    except KeyError:
        raise EmitError(f"Core AI has no constants of element type {dtype}") from None


def limits(name: str) -> tuple[int, int]:
    """The smallest and the largest value of an integer type."""
    element = TYPES[name]
    half = 1 << element.bits - 1
    return (-half, half - 1) if element.numpy.kind == "i" else (0, 2 * half - 1)


def pack_bits(values: Array, bits: int) -> Array:
    """Elements of `bits` bits each (two's complement if signed), least significant bit first, in bytes of which the
    last is filled with zeros."""
    each = np.unpackbits(values.view(np.uint8).reshape(-1, 1), axis=1, count=bits, bitorder="little")
    return np.packbits(each.reshape(-1), bitorder="little")

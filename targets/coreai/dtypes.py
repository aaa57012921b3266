"""Element types of the dialect: how its notation names them, and how numpy holds them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.errors import EmitError

MAX_RANK = 5  # of tensors that the Neural Engine and Core ML's successors take


class ElementType(NamedTuple):
    """One element type."""

    mlir: str
    numpy: np.dtype[np.generic]


TYPES = {
    "bool": ElementType("i1", np.dtype(np.bool_)),
    "fp16": ElementType("f16", np.dtype(np.float16)),
    "fp32": ElementType("f32", np.dtype(np.float32)),
    "int8": ElementType("si8", np.dtype(np.int8)),
    "uint8": ElementType("ui8", np.dtype(np.uint8)),
    "int16": ElementType("si16", np.dtype(np.int16)),
    "uint16": ElementType("ui16", np.dtype(np.uint16)),
    "int32": ElementType("si32", np.dtype(np.int32)),
    "uint32": ElementType("ui32", np.dtype(np.uint32)),
    "int64": ElementType("si64", np.dtype(np.int64)),
    "uint64": ElementType("ui64", np.dtype(np.uint64)),
}
_OF_NUMPY = {t.numpy: name for name, t in TYPES.items()}


def type_of(dtype: np.dtype[np.generic]) -> str:
    """The element type of a numpy array."""
    try:
        return _OF_NUMPY[dtype]
    except KeyError:
        raise EmitError(f"Core AI has no constants of element type {dtype}") from None

"""Weights with many zeros, stored as a bit mask and the numbers that are left."""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.tensor import Array
from passes._weight_bits import LEAST, is_weight
from passes._zeros import MANY, has_many_zeros

ENTRY = 128  # bytes that the mask takes at most beside its bits: a record of its own, and what aligns it


def masked_bytes(size: int, left: int, bits: float) -> int:
    """A mask of `size` bits, and `left` numbers of `bits` each."""
    return -(-size // 8) + -(-int(left * bits) // 8) + ENTRY


def bytes_of(data: Array, bits: float, share: float | None = MANY) -> int:
    """What a weight takes with numbers of `bits` bits, but for scales and tables: as a mask and the numbers that are
    left if at least a `share` of it are zeros and that is less, else (None: always) as all of its numbers."""
    dense = -(-int(data.size * bits) // 8)
    if share is None or data.size < LEAST or not has_many_zeros(data, share):
        return dense
    return min(dense, masked_bytes(data.size, int(np.count_nonzero(data)), bits))


def is_sparse(v: Value, share: float | None) -> bool:
    """Whether a constant is the weight of layers, and has so many zeros that it is worth a mask (None: none is)."""
    if share is None or v.data is None or not v.type.dtype.is_float or v.type.size < LEAST:
        return False
    return is_weight(v) and has_many_zeros(v.data, share)

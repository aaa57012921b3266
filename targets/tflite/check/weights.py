"""Looking at the weights of a file, of which only a piece is in memory."""

from __future__ import annotations

from compiler.filemap import release
from compiler.tensor import Array

PIECE = 1 << 22
LOWEST = 0x80  # -128 as it is stored


def has_lowest(data: Array) -> bool:
    """Whether any of these bytes (uint8) is the int8 -128."""
    for start in range(0, len(data), PIECE):
        piece = data[start : start + PIECE]
        if (piece == LOWEST).any():
            return True
        release(piece)
    return False

"""The constants of a library: one block, each array once, at multiples of a cache line."""

from __future__ import annotations

from hashlib import sha256
from typing import BinaryIO

import numpy as np

from codegen.arena import aligned
from codegen.program import Buffer
from compiler.tensor import Array


class Weights:
    """Arrays in the order in which they came."""

    def __init__(self) -> None:
        self.size = 0
        self.buffers: list[Buffer] = []
        self._arrays: list[Array] = []
        self._known: dict[bytes, Buffer] = {}

    def find(self, array: Array) -> Buffer | None:
        """Where an array with the same bytes lies."""
        return self._known.get(_digest(array))

    def add(self, buffer: Buffer, array: Array) -> None:
        """Lay an array at the end."""
        buffer.offset = self.size
        self.size += aligned(max(array.nbytes, 1))
        self._known[_digest(array)] = buffer
        self.buffers.append(buffer)
        self._arrays.append(array)

    def array(self, buffer: Buffer) -> Array:
        """What lies in a buffer."""
        return self._arrays[self.buffers.index(buffer)]

    def write(self, file: BinaryIO) -> None:
        """All bytes, little-endian."""
        for buffer, array in zip(self.buffers, self._arrays, strict=True):
            file.write(b"\0" * (buffer.offset - file.tell()))
            file.write(_bytes(array))
        file.write(b"\0" * (self.size - file.tell()))


def _bytes(array: Array) -> memoryview | bytes:
    made = np.ascontiguousarray(array)
    if made.dtype.byteorder == ">":
        made = made.astype(made.dtype.newbyteorder("<"))
    return made.reshape(-1).view(np.uint8).data if made.size else b""


def _digest(array: Array) -> bytes:
    return sha256(_bytes(array)).digest()

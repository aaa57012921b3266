"""The weight file of an ML Program (`weight.bin`, storage format version 2), written in one pass and read by memory
mapping.

Layout, as coremltools 9.0 writes it; all numbers little-endian, everything begins at a multiple of 64 bytes:

    file header   u32 number of entries, u32 version (2), 56 zero bytes
    per entry     u32 0xDEADBEEF, u32 element type, u64 bytes of data, u64 offset of data,
                  u64 unused bits of the last byte, 32 zero bytes; then the data

A program refers to an entry by the offset of its record. The file ends with the last byte of data.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from compiler.errors import EmitError
from compiler.filemap import release
from compiler.order import in_order
from compiler.tensor import Array
from targets.coreml.dtypes import BY_BLOB, TYPES, ElementType, cast, pack_bits, unpack_bits

_ALIGN = 64
_VERSION = 2
_SENTINEL = 0xDEADBEEF
_HEADER = struct.Struct("<II56x")
_RECORD = struct.Struct("<IIQQQ32x")
HEADER_BYTES = _HEADER.size
_CHUNK = 1 << 20  # elements converted and written at a time; a multiple of 8, so that packed chunks end on a byte


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN


def _packed(count: int, element: ElementType) -> int:
    return -(-count * element.bits // 8)


def entry_bytes(count: int, dtype: str) -> int:
    """What an entry of so many elements of a MIL type adds to a weight file at most."""
    return _RECORD.size + _aligned(_packed(count, TYPES[dtype]))


class _Entry:
    __slots__ = ("array", "element", "name", "offset")

    def __init__(self, array: Array, element: ElementType, name: str, offset: int) -> None:
        self.array, self.element, self.name, self.offset = array, element, name, offset

    @property
    def data_bytes(self) -> int:
        return _packed(self.array.size, self.element)

    @property
    def end(self) -> int:
        return self.offset + _RECORD.size + self.data_bytes


class BlobWriter:
    """Lays out constants first and writes them once, in chunks, converting element types on the way.

    Arrays are referenced, never copied, so they may be memory-mapped and larger than memory; the pages of those of an
    ONNX file are given back one constant after another.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._offsets: dict[Hashable, int] = {}
        self.overflowed: list[str] = []
        self.checksum = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, array: Array, dtype: str, *, name: str = "", key: Hashable = None) -> int:
        """The offset under which a program finds `array` stored as MIL type `dtype`.

        Arrays given with the same `key` (not None) and the same `dtype` are stored once; without a key, the same array
        object is.
        """
        element = TYPES[dtype]
        if element.blob is None:
            raise EmitError(f"the weight file cannot hold elements of type {dtype}")
        identity = (dtype, "key", key) if key is not None else (dtype, "id", id(array))
        if (known := self._offsets.get(identity)) is not None:
            return known
        offset = _aligned(self._entries[-1].end) if self._entries else _ALIGN
        self._entries.append(_Entry(array, element, name, offset))
        self._offsets[identity] = offset
        return offset

    def write(self, file: BinaryIO) -> None:
        """Write everything to `file`, which is at its beginning.

        Afterwards `overflowed` names the constants with finite elements that became infinite in fp16, and `checksum`
        depends on all bytes of data.
        """
        self.overflowed, self.checksum = [], 0
        file.write(_HEADER.pack(len(self._entries), _VERSION))
        position = _HEADER.size
        for entry in self._entries:
            file.write(bytes(entry.offset - position))
            unused = entry.data_bytes * 8 - entry.array.size * entry.element.bits
            start = entry.offset + _RECORD.size
            file.write(_RECORD.pack(_SENTINEL, entry.element.blob, entry.data_bytes, start, unused))
            for chunk in self._converted(entry):
                self.checksum = zlib.adler32(chunk, self.checksum)
                file.write(chunk)
            position = entry.end

    def _converted(self, entry: _Entry) -> Iterator[bytes | memoryview]:
        """The data of an entry as it is stored; elements are narrowed before they are put in order."""
        element, overflow = entry.element, False
        array = np.ascontiguousarray(entry.array) if element.packed else entry.array
        for chunk in _chunks(array):
            stored, lost = cast(chunk, element.numpy)
            overflow |= lost
            yield pack_bits(stored, element.bits) if element.packed else in_order(stored).reshape(-1).data.cast("B")
        release(entry.array)
        if overflow:
            self.overflowed.append(entry.name)


def _chunks(array: Array) -> Iterator[Array]:
    """Views of `array` of up to about _CHUNK elements, one after another in row-major order."""
    if array.size <= _CHUNK:
        yield array
    elif array.flags.c_contiguous:
        flat = array.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            yield flat[start : start + _CHUNK]
    elif array.size // len(array) > _CHUNK:
        for part in array:
            yield from _chunks(part)
    else:
        step = _CHUNK // (array.size // len(array))
        for start in range(0, len(array), step):
            yield array[start : start + step]


class BlobReader:
    """Constants of a weight file; arrays are views of the memory-mapped file unless their elements are packed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                self._data: mmap.mmap | bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise EmitError(f"the weight file {str(path)!r} cannot be read: {error}") from None
        if len(self._data) < _HEADER.size:
            raise self._broken("it ends within its header")
        self.count, version = _HEADER.unpack_from(self._data)
        if version != _VERSION:
            raise self._broken(f"its storage format is version {version}, not {_VERSION}")

    def read(self, offset: int) -> tuple[str, Array]:
        """MIL type and elements (one-dimensional, read-only) of the entry whose record begins at `offset`."""
        if offset < 0 or offset + _RECORD.size > len(self._data):
            raise self._broken(f"it has no record at offset {offset}")
        sentinel, code, size, start, unused = _RECORD.unpack_from(self._data, offset)
        if sentinel != _SENTINEL or code not in BY_BLOB or unused > 7:
            raise self._broken(f"it has no record at offset {offset}")
        if start + size > len(self._data):
            raise self._broken(f"the entry at offset {offset} ends after the end of the file")
        element = BY_BLOB[code]
        raw = np.frombuffer(self._data, np.uint8, size, start)
        if element.packed:
            return element.name, unpack_bits(raw, element, (size * 8 - unused) // element.bits)
        return element.name, raw.view(element.numpy)

    def _broken(self, why: str) -> EmitError:
        return EmitError(f"the weight file {str(self._path)!r} is broken: {why}")

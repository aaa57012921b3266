"""Writes ONNX models by streaming their weights, from memory or straight from the files they were read from.

    write_model(path, model, initializers, external=None) -> list[Path]    # the files written, the model first
    model_bytes(model, initializers) -> bytes                              # the same file in memory, for a session
    tensor_proto(name, array) -> TensorProto                               # self-contained, for attributes

`model` is a ModelProto without the initializers, which are (name, array) pairs; they come last in its graph. Arrays
that are views of a mapped file (`onnx_file`) are copied by the kernel and never become resident. The path may be the
one the model was read from. The same arguments give the same bytes.

External data goes to one file beside the model, named `<model>.data`: when asked for, or when protobuf's 2 GiB
would not do. Tensors below 1 KiB and strings stay inside; those of 64 KiB and more start at multiples of 4096.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from compiler import onnx_proto
from compiler.errors import OnnxError
from compiler.filemap import locate, release
from compiler.onnx_proto import INLINE_LIMIT, data_type_of, pack, quote
from compiler.onnx_wire import BYTES, MARK, pointer, read_varint, skip, varint
from compiler.order import in_order
from compiler.tensor import STRING, Array, dtype_of

if TYPE_CHECKING:
    from compiler.onnx_proto import ModelProto, TensorProto

SMALL = 1024  # below, a tensor stays inside a model with external data
INLINE = 8192  # below, a payload is gathered with its surroundings
PAGE = 4096
PAGED = 1 << 16  # from here on, external data starts on a page
CHUNK = 1 << 20

Piece: TypeAlias = bytes | Array


def write_model(
    path: str | os.PathLike[str],
    model: ModelProto,
    initializers: Iterable[tuple[str, Array]] = (),
    external: bool | None = None,
) -> list[Path]:
    """Writes the model, and its data file if there is one; neither appears before both are complete.

    Raises OnnxError if a file cannot be written, or if `external` is False and the model exceeds 2 GiB.
    """
    target = Path(path)
    weights = list(initializers)
    if external is None:
        size = sum(array.nbytes + 4 * len(name) + 11 * array.ndim + 64 for name, array in weights)
        external = size + model.ByteSize() > INLINE_LIMIT
    try:
        with ExitStack() as stack:
            files = [AtomicFile(stack, target)]
            data = target.with_name(target.name + ".data")
            layout = External(data.name)
            tensors = layout.tensors(weights) if external else _inline(weights)
            if layout.pieces:
                files.append(AtomicFile(stack, data))
                files[1].write(layout.pieces)
            files[0].write(_assemble(model, tensors))
            for file in reversed(files):
                file.publish()
    except (OSError, UnicodeEncodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise OnnxError(f"the model cannot be written to {quote(str(target))}: {reason.lower()}") from None
    return [file.path for file in files]


def model_bytes(model: ModelProto, initializers: Iterable[tuple[str, Array]] = ()) -> bytes:
    """The bytes that `write_model` puts into a file without external data."""
    return b"".join(_raw(piece) for piece in _assemble(model, _inline(initializers)))


def tensor_proto(name: str, array: Array) -> TensorProto:
    """A tensor that holds its data."""
    head, payload = encode(name, array)
    return onnx_proto.TensorProto.FromString(
        head if payload is None else head + _inline_head(payload) + bytes(_raw(payload))
    )


def encode(name: str, array: Array) -> tuple[bytes, Piece | None]:
    """The fields of a TensorProto and its payload; strings are part of the fields and have none."""
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    dtype = dtype_of(array)
    head = _type_fields(array.shape, data_type_of(dtype)) + _field(8, name.encode("utf-8", "surrogateescape"))
    if dtype is STRING:
        return head + b"".join(_field(6, _text(item)) for item in array.reshape(-1).tolist()), None
    return head, bytes(_raw(array)) if array.nbytes < INLINE else array


@lru_cache(maxsize=4096)
def _type_fields(shape: tuple[int, ...], data_type: int) -> bytes:
    return b"".join(b"\x08" + varint(dim) for dim in shape) + b"\x10" + varint(data_type)


def _text(item: object) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode("utf-8", "surrogateescape")


def _field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def _inline_head(payload: Piece) -> bytes:
    return b"\x4a" + varint(_length(payload))


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else (piece.size * dtype_of(piece).bits + 7) // 8


def _raw(piece: Piece) -> bytes | memoryview:
    """The bytes of a piece as ONNX stores them; a copy only where they differ from those in memory."""
    if isinstance(piece, bytes):
        return piece
    codes = in_order(piece).reshape(-1).view(np.uint8)
    bits = dtype_of(piece).bits
    return pack(codes, bits).data if bits < 8 else codes.data


def _place(array: Array) -> tuple[int, int] | None:
    """The file range that holds the bytes of an array as ONNX stores them, if there is one."""
    return locate(array) if dtype_of(array).bits >= 8 else None


def _inline(weights: Iterable[tuple[str, Array]]) -> list[Piece]:
    """The initializer fields of a graph, small ones gathered."""
    out: list[Piece] = []
    run: list[bytes] = []
    for name, array in weights:
        head, payload = encode(name, array)
        if payload is not None:
            head += _inline_head(payload)
        length = len(head) + (0 if payload is None else _length(payload))
        run += (b"\x2a", varint(length), head)
        if isinstance(payload, bytes):
            run.append(payload)
        elif payload is not None:
            out += (b"".join(run), payload)
            run = []
    out.append(b"".join(run))
    return out


class External:
    """Lays payloads out in a data file."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.pieces: list[Piece] = []
        self.size = 0

    def tensors(self, weights: Iterable[tuple[str, Array]]) -> list[Piece]:
        """The initializer fields of a graph; fills `pieces` with what belongs into the data file."""
        out: list[bytes] = []
        for name, array in weights:
            head, payload = encode(name, array)
            if payload is not None:
                length = _length(payload)
                inside = length < SMALL
                head += _inline_head(payload) + bytes(_raw(payload)) if inside else self.place(payload, length)
            out.append(_field(5, head))
        return [b"".join(out)]

    def place(self, payload: Piece, length: int) -> bytes:
        align = PAGE if length >= PAGED else 64
        gap = -self.size % align
        self.pieces += (bytes(gap), payload) if gap else (payload,)
        offset = self.size + gap
        self.size = offset + length
        return pointer(self.location, offset, length)


def _assemble(model: ModelProto, tensors: list[Piece]) -> list[Piece]:
    """The whole file: the model with the tensors at the end of its graph. Raises OnnxError beyond 2 GiB."""
    encoded = model.SerializeToString(deterministic=True)
    if MARK in encoded:
        raise OnnxError("the model to write still points into the file it was read from")
    tag, start, end = _graph(encoded)
    graph = end - start + sum(map(_length, tensors))
    total = graph + len(encoded)
    if total > INLINE_LIMIT:
        raise OnnxError(
            f"the model takes {total:,} bytes in one file, more than the 2 GiB that ONNX allows",
            hint="write its weights as external data",
        )
    return [encoded[:tag] + b"\x3a" + varint(graph) + encoded[start:end], *tensors, encoded[end:]]


def _graph(encoded: bytes) -> tuple[int, int, int]:
    """Where the field of the graph begins, and where its content begins and ends."""
    position = 0
    while 0 <= position < len(encoded):
        field = position
        tag, position = read_varint(encoded, position)
        if tag & 7 != BYTES:
            position = skip(encoded, tag & 7, position)
            continue
        length, position = read_varint(encoded, position)
        if tag == 7 << 3 | BYTES:
            return field, position, position + length
        position += length
    if position < 0:
        raise OnnxError("the model to write holds a field of an unknown encoding")
    return position, position, position


class AtomicFile:
    """A file that is written beside its path and takes its place at once; removed if that does not come about."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        """Raises OSError if there can be no such file, or if something other than a file is in its place."""
        if not path.name or "\0" in str(path):
            raise OSError("this is not the name of a file")
        self.path = path
        self.temporary = path.with_name(f".{path.name[:40]}.{os.urandom(6).hex()}.tmp")
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise OSError("there is something else than a file in its place")
        self.fd = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        stack.callback(self.temporary.unlink, missing_ok=True)
        stack.callback(os.close, self.fd)

    def publish(self) -> None:
        self.temporary.replace(self.path)

    def write(self, pieces: Iterable[Piece]) -> None:
        """Appends the pieces; small ones go out together, mapped ones inside the kernel."""
        run: list[bytes] = []
        held = 0
        for piece in pieces:
            if isinstance(piece, bytes):
                run.append(piece)
                held += len(piece)
                if held < CHUNK:
                    continue
            self._put(b"".join(run))
            run, held = [], 0
            if not isinstance(piece, bytes):
                place = _place(piece)
                if place is None:
                    self._put(_raw(piece))
                    release(piece)
                else:
                    self._copy(*place, piece.nbytes)
        self._put(b"".join(run))

    def _put(self, data: bytes | memoryview) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self.fd, left[: 1 << 30]) :]

    def _copy(self, source: int, offset: int, length: int) -> None:
        """Appends a range of another file; falls back to slower ways where the file systems demand it."""
        ways: list[Callable[[int, int, int], int]] = [self._by_range, self._by_sendfile, self._by_read]
        while length:
            try:
                done = ways[0](source, offset, min(length, 1 << 30))
            except OSError:
                if len(ways) == 1:
                    raise
                ways.pop(0)
                continue
            if not done:
                raise OSError("the file that holds its weights was cut short")
            offset += done
            length -= done

    def _by_range(self, source: int, offset: int, length: int) -> int:
        return os.copy_file_range(source, self.fd, length, offset)

    def _by_sendfile(self, source: int, offset: int, length: int) -> int:
        return os.sendfile(self.fd, source, offset, length)

    def _by_read(self, source: int, offset: int, length: int) -> int:
        return os.write(self.fd, os.pread(source, min(length, CHUNK), offset))

"""Reads ONNX models without copying their weights, and without trusting them.

    file = read_model("model.onnx")              # or bytes, a ModelProto, an onnx_graphsurgeon.Graph, a .onnxtxt file
    file.model                                   # ModelProto: functions inlined, large payloads left in the file
    file.tensor(tensor_proto) -> np.ndarray      # any TensorProto of the model: initializer, attribute, in a subgraph
    file.dense(sparse_tensor_proto) -> np.ndarray
    file.initializers(graph=None)                # (name, array) of each, sparse ones too; of the main graph by default

Arrays are read-only. Those of 4 KiB and more in flat encodings, inside the model or in external data, are views of a
map of their file (`filemap.locate`, `filemap.release`), which may start at any byte (`array.flags.aligned`). Strings
are object arrays of `str` (bytes that are not UTF-8 become surrogate escapes). Elements of fewer than eight bits take
one byte each. Everything a file can do wrong raises OnnxError. `file.model` with its pointers into the file means
something to this object alone: `onnx_write` puts a model back together.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compiler import onnx_proto, onnx_wire
from compiler.errors import OnnxError
from compiler.filemap import FileMap, MapError, map_below, map_file
from compiler.onnx_proto import DATA_TYPES, element_type, quote, unpack
from compiler.tensor import BOOL, C64, C128, F32, F64, I64, STRING, U32, U64, Array, DType

if TYPE_CHECKING:
    from compiler.onnx_proto import GraphProto, ModelProto, SparseTensorProto, TensorProto

MAX_RANK = 64  # numpy's
MAX_DENSE = 1 << 28  # bytes a sparse tensor may grow to
FIELDS = {F32: "float_data", C64: "float_data", F64: "double_data", C128: "double_data"} | {
    I64: "int64_data",
    U32: "uint64_data",
    U64: "uint64_data",
}
STORED = {"float_data": np.float32, "double_data": np.float64, "int64_data": np.int64, "uint64_data": np.uint64}


class OnnxFile:
    """A model and the files that hold its weights. `name` is how messages call it, `folder` where external data is."""

    def __init__(
        self, model: ModelProto, name: str, folder: Path | None = None, buffer: FileMap | bytes | None = None
    ) -> None:
        self.model = model
        self.name = name
        self.folder = folder
        self.expanded = False  # whether it had functions, which are inlined
        self._buffer = buffer
        self._external: dict[str, FileMap] = {}

    def initializers(self, graph: GraphProto | None = None) -> Iterator[tuple[str, Array]]:
        """Name and array of each initializer of a graph of this model."""
        graph = self.model.graph if graph is None else graph
        for tensor in graph.initializer:
            yield _text(tensor.name), self.tensor(tensor)
        for sparse in graph.sparse_initializer:
            yield _text(sparse.values.name), self.dense(sparse)

    def tensor(self, tensor: TensorProto) -> Array:
        """The elements of a tensor of this model."""
        dtype = DATA_TYPES.get(tensor.data_type) or element_type(tensor.data_type, f"the tensor {quote(tensor.name)}")
        shape = tuple(tensor.dims)
        if len(shape) > MAX_RANK:
            raise _wrong(tensor, f"it has {len(shape)} dimensions, more than {MAX_RANK}")
        if shape and min(shape) < 0:
            raise _wrong(tensor, f"it has a negative dimension in its shape {list(shape)}")
        count = math.prod(shape)
        size = (count * dtype.bits + 7) // 8
        if tensor.HasField("segment"):
            raise _wrong(tensor, "it is one segment of a larger tensor, which is not supported")
        try:
            if dtype is STRING:
                array = _strings(tensor, shape, count)
            elif tensor.data_location:
                array = _flat(*self._payload(tensor, size), dtype, shape, count)
            elif raw := tensor.raw_data:
                if len(raw) != size:
                    raise _wrong(tensor, f"its shape {list(shape)} of {dtype} needs {size} bytes, it holds {len(raw)}")
                array = _flat(raw, 0, dtype, shape, count)
            else:
                array = _typed(tensor, dtype, shape, count)
        except (ValueError, MemoryError, OverflowError) as error:
            raise _wrong(tensor, f"its shape {list(shape)} cannot be held in memory ({error})") from None
        array.flags.writeable = False
        return array

    def dense(self, sparse: SparseTensorProto) -> Array:
        """The tensor with its zeros; raises OnnxError if that takes more than 256 MiB."""
        values, indices = self.tensor(sparse.values), self.tensor(sparse.indices)
        shape = tuple(sparse.dims)
        if not 0 < len(shape) <= MAX_RANK or min(shape) < 0 or math.prod(shape) * values.itemsize > MAX_DENSE:
            raise _wrong(sparse.values, f"the shape {list(shape)[:MAX_RANK]} of the sparse tensor is not supported")
        if indices.dtype != np.int64 or values.ndim != 1 or indices.shape[:1] != values.shape or indices.ndim > 2:
            raise _wrong(sparse.values, f"{indices.shape} indices do not fit {values.shape} values")
        limits = np.array(shape if indices.ndim == 2 else [math.prod(shape)], np.int64)
        table = indices.reshape(len(values), -1) if len(values) else np.zeros((0, limits.size), np.int64)
        if table.shape[1] != limits.size or np.any((table < 0) | (table >= limits)):
            raise _wrong(sparse.values, f"an index lies outside of the shape {list(shape)} of the sparse tensor")
        out = np.zeros(shape, values.dtype)
        flat = np.ravel_multi_index(tuple(table.T), shape) if indices.ndim == 2 else table[:, 0]
        out.reshape(-1)[flat] = values
        out.flags.writeable = False
        return out

    def _payload(self, tensor: TensorProto, size: int) -> tuple[FileMap | bytes, int]:
        """The bytes that hold the data of a tensor and where it starts; checked to hold `size` bytes."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        offset = _number(tensor, entries, "offset", 0)
        length = _number(tensor, entries, "length", size)
        here = location == onnx_wire.HERE
        source = self._buffer if here else self._map(tensor, location) if size else b""
        if length != size:
            raise _wrong(tensor, f"its shape {list(tensor.dims)} needs {size} bytes, it says that it has {length}")
        if source is None:
            raise _wrong(tensor, "its external data has no location")
        if size and offset + size > len(source):
            raise _wrong(
                tensor,
                f"bytes {offset} to {offset + size} of its data are not in {quote(location)}, "
                f"which has {len(source)} bytes",
            )
        return source, offset if size else 0

    def _map(self, tensor: TensorProto, location: str) -> FileMap:
        found = self._external.get(location)
        if found is None:
            if not isinstance(location, str):
                raise _wrong(tensor, f"the location {quote(location)} of its external data is not UTF-8")
            if self.folder is None:
                raise _wrong(
                    tensor,
                    f"its data is in the file {quote(location)}, and the model was not read from a file",
                    "give the folder of the data, or the path of the model",
                )
            try:
                found = self._external[location] = map_below(self.folder, location)
            except MapError as error:
                raise _wrong(tensor, f"its external data {quote(location)} {error}") from None
        return found


def read_model(source: object, folder: str | os.PathLike[str] | None = None) -> OnnxFile:
    """Reads a path, the bytes of a file, a ModelProto or an onnx_graphsurgeon.Graph.

    External data lies in the folder of the path; for the others in `folder`.
    """
    below = None if folder is None else Path(folder)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.suffix == ".onnxtxt":
            return _inlined(OnnxFile(_parse_text(path), str(path), path.parent))
        try:
            buffer: FileMap | bytes = map_file(path)
        except MapError as error:
            raise OnnxError(f"the model {quote(str(path))} {error}") from None
        return _inlined(_decode(buffer, str(path), path.parent))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _inlined(_decode(bytes(source), "the model", below))
    if type(source).__module__.partition(".")[0] == "onnx_graphsurgeon":
        import onnx_graphsurgeon  # heavy; its user has it loaded

        source = onnx_graphsurgeon.export_onnx(source)
    if isinstance(source, onnx_proto.ModelProto):
        return _inlined(OnnxFile(source, "the model", below))
    raise OnnxError(
        f"a model is a path, bytes, a ModelProto or an onnx_graphsurgeon.Graph, not {type(source).__name__}"
    )


def _decode(buffer: FileMap | bytes, name: str, folder: Path | None) -> OnnxFile:
    try:
        model = onnx_proto.ModelProto.FromString(onnx_wire.skeleton(buffer))
    except (onnx_wire.TruncatedError, onnx_proto.DecodeError) as error:
        cut = isinstance(error, onnx_wire.TruncatedError)
        hint = "fetch it with `git lfs pull`" if buffer[:11] == b"version htt" else None
        reason = "it ends early" if cut else str(error).partition(": ")[2] or str(error)
        raise OnnxError(f"{_subject(name)} is not a complete ONNX model ({reason})", hint=hint) from None
    if isinstance(buffer, FileMap):
        buffer.drop()
    return OnnxFile(model, name, folder, buffer)


def _parse_text(path: Path) -> ModelProto:
    import onnx.parser  # heavy; for this rare kind of file only

    try:
        return onnx.parser.parse_model(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, onnx.parser.ParseError) as error:
        reason = " ".join(str(error).split())[:300]
        raise OnnxError(f"the model {quote(str(path))} cannot be read as ONNX text ({reason})") from None


def _inlined(file: OnnxFile) -> OnnxFile:
    if not file.model.HasField("graph"):
        raise OnnxError(f"{_subject(file.name)} is not an ONNX model: it holds no graph")
    if file.model.functions:
        from compiler.onnx_inline import inline_functions  # only for models that have some

        file.model = inline_functions(file.model, _subject(file.name))
        file.expanded = True
    return file


def _subject(name: str) -> str:
    return name if name == "the model" else f"the file {quote(name)}"


def _wrong(tensor: TensorProto, what: str, hint: str | None = None) -> OnnxError:
    return OnnxError(f"the tensor {quote(tensor.name)} cannot be read: {what}", hint=hint)


def _text(name: str) -> str:
    if isinstance(name, str):
        return name
    raise OnnxError(f"the tensor name {quote(name)} is not UTF-8")


def _number(tensor: TensorProto, entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not (isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 20):
        raise _wrong(tensor, f"the {key} {quote(text)} of its external data is not a number of bytes")
    return int(text)


def _flat(source: FileMap | bytes, offset: int, dtype: DType, shape: tuple[int, ...], count: int) -> Array:
    """A view of the bytes where the element type allows it; elements are checked to be values of their type."""
    if dtype.bits < 8:
        packed: Array = np.ndarray(((count * dtype.bits + 7) // 8,), np.uint8, source, offset)
        return unpack(packed, dtype.bits, count).view(dtype.numpy).reshape(shape)
    if dtype is BOOL:
        codes: Array = np.ndarray((count,), np.uint8, source, offset)
        if count and codes.max() > 1:
            return np.not_equal(codes, 0).reshape(shape)
    return np.ndarray(shape, dtype.numpy, source, offset)


def _strings(tensor: TensorProto, shape: tuple[int, ...], count: int) -> Array:
    if len(tensor.string_data) != count:
        raise _wrong(tensor, f"its shape {list(shape)} needs {count} strings, it holds {len(tensor.string_data)}")
    array = np.empty(count, object)
    array[:] = [text.decode("utf-8", "surrogateescape") for text in tensor.string_data]
    return array.reshape(shape)


def _typed(tensor: TensorProto, dtype: DType, shape: tuple[int, ...], count: int) -> Array:
    """The elements from the field that ONNX sets aside for their type."""
    field = FIELDS.get(dtype, "int32_data")
    values = getattr(tensor, field)
    needed = (count * dtype.bits + 7) // 8 if dtype.bits < 8 else 2 * count if dtype.kind == "c" else count
    if len(values) != needed:
        raise _wrong(tensor, f"its shape {list(shape)} of {dtype} needs {needed} numbers in {field}, not {len(values)}")
    stored: Array = np.fromiter(values, STORED.get(field, np.int32), needed)
    if dtype is BOOL:
        return np.not_equal(stored, 0).reshape(shape)
    if dtype.bits < 8:
        return unpack(stored.astype(np.uint8), dtype.bits, count).view(dtype.numpy).reshape(shape)
    if field == "int32_data" and dtype.kind == "f":
        stored = stored.astype(np.uint8 if dtype.bits == 8 else np.uint16)
    stored = stored.view(dtype.numpy) if dtype.kind in "fc" else stored.astype(dtype.numpy, copy=False)
    return stored.reshape(shape)

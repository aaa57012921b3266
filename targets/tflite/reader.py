"""Reading any .tflite file into plain records, whoever wrote it.

`read(path) -> File` maps the file; constants are views of the map. What the file says is not trusted: an offset, a
count or a number that leads out of the file raises TfliteFileError, and so does a file whose tables refer to the same
bytes so often that reading them would take unbounded time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from math import prod
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from compiler.errors import CompileError
from compiler.filemap import FileMap, MapError, map_file
from compiler.onnx_proto import quote
from compiler.tensor import Array
from targets.tflite.schema import schema

IDENTIFIER = b"TFL3"
BUDGET = 1 << 24  # what may be read besides constants: elements of vectors and characters; a table counts as TABLE
TABLE = 128
MOST_AXES = 64
AGAIN = "write it again, or get it again from its source"
DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError, RecursionError)

# How an element type is stored; the types of less than a byte are packed.
STORED: dict[str, np.dtype[Any]] = {
    "FLOAT32": np.dtype("<f4"),
    "FLOAT16": np.dtype("<f2"),
    "FLOAT64": np.dtype("<f8"),
    "INT8": np.dtype("i1"),
    "UINT8": np.dtype("u1"),
    "INT16": np.dtype("<i2"),
    "UINT16": np.dtype("<u2"),
    "INT32": np.dtype("<i4"),
    "UINT32": np.dtype("<u4"),
    "INT64": np.dtype("<i8"),
    "UINT64": np.dtype("<u8"),
    "BOOL": np.dtype("?"),
    "COMPLEX64": np.dtype("<c8"),
    "COMPLEX128": np.dtype("<c16"),
}
PACKED_BITS = {"INT4": 4, "UINT4": 4, "INT2": 2}

T = TypeVar("T")


class TfliteFileError(CompileError):
    """The file is not a TensorFlow Lite model, or it is damaged."""


class Quantization(NamedTuple):
    """real = scale * (q - zero_point); vectors of one element, or one per index of `axis`, as the file has them."""

    scale: Array  # float32
    zero_point: Array  # int64
    axis: int
    details: str  # "NONE", or the name of a table beyond the affine ones


class Tensor(NamedTuple):
    """A tensor of a subgraph. `data` holds the bytes of a constant (uint8), None elsewhere; `signature` is the shape
    with -1 for sizes that are not known before a run, None where the file has none."""

    number: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...] | None
    quantization: Quantization | None
    buffer: int
    data: Array | None
    is_variable: bool
    has_rank: bool
    sparse: bool

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def is_static(self) -> bool:
        return min((*self.shape, *(self.signature or ())), default=0) >= 0

    @property
    def nbytes(self) -> int | None:
        """Bytes that the elements take in the file; None for types without a fixed size, as strings."""
        if self.dtype in PACKED_BITS:
            return -(-self.size * PACKED_BITS[self.dtype] // 8)
        stored = STORED.get(self.dtype)
        return None if stored is None else self.size * stored.itemsize

    @property
    def is_readable(self) -> bool:
        """Whether `array` gives the elements: the data of a constant is there, as much as the shape needs."""
        return self.data is not None and self.is_static and self.nbytes == len(self.data)

    def array(self) -> Array:
        """The elements of a constant, in its shape: a view of the file, a copy for packed types.
        TfliteFileError if there are none or their number is not the shape's."""
        if self.data is None or self.nbytes is None or not self.is_static:
            raise TfliteFileError(f"tensor {quote(self.name)} has no elements that can be read as {self.dtype}")
        if len(self.data) != self.nbytes:
            text = f"tensor {quote(self.name)} has {len(self.data)} bytes of data where its shape needs {self.nbytes}"
            raise TfliteFileError(text)
        if self.dtype in PACKED_BITS:
            return _unpacked(self.data, self.dtype)[: self.size].reshape(self.shape)
        return self.data.view(STORED[self.dtype]).reshape(self.shape)


class Operator(NamedTuple):
    """An operator. `code` is the builtin's name ("CUSTOM" with its name in `custom`; "BUILTIN_n" if the schema has
    none); inputs and outputs are numbers of tensors, -1 for an absent one. Fields of `options` are named as in the
    schema's classes."""

    number: int
    code: str
    custom: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    options_kind: str
    options: Mapping[str, Any]


class Subgraph(NamedTuple):
    """Tensors and the operators on them, in the order of execution."""

    number: int
    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


class Signature(NamedTuple):
    """Names of inputs and outputs of a subgraph -> numbers of tensors."""

    key: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    subgraph: int


class File(NamedTuple):
    """All of a .tflite file; `codes` lists the operators it declares, used or not."""

    path: str
    size: int
    version: int
    description: str
    codes: tuple[tuple[str, str, int], ...]
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    metadata: Mapping[str, Array]


def read(path: str | Path) -> File:
    """The file's content; constants stay on the disk until they are looked at. TfliteFileError if it is not one."""
    classes = schema()
    name = quote(str(path))
    try:
        data = map_file(path)
    except MapError as e:
        raise TfliteFileError(f"{name} {e}") from None
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise TfliteFileError(f"{name} is not a TensorFlow Lite file: its identifier is not TFL3")
    try:
        return _Reader(data, classes).file(str(path))
    except _DamageError as e:
        raise TfliteFileError(f"{name} is damaged: {e}", hint=AGAIN) from None
    except DAMAGE:
        raise TfliteFileError(f"{name} is damaged: an offset leads out of the file", hint=AGAIN) from None


class _DamageError(Exception):
    """What is wrong with the file."""


class _Reader:
    def __init__(self, data: FileMap, classes: Any) -> None:  # Any: the generated module has no types
        self._data = data
        self._schema = classes
        self._left = BUDGET
        self._buffers: list[Array | None] = []
        self._codes: tuple[tuple[str, str, int], ...] = ()

    def file(self, path: str) -> File:
        self._tables_within()
        model = self._schema.Model.GetRootAs(self._data, 0)
        self._buffers = [self._buffer(b) for b in self._tables(model, "Buffers")]
        self._codes = tuple(self._code(c) for c in self._tables(model, "OperatorCodes"))
        return File(
            path,
            len(self._data),
            model.Version(),
            self._text(model.Description()),
            self._codes,
            tuple(self._subgraph(i, s) for i, s in enumerate(self._tables(model, "Subgraphs"))),
            tuple(self._signature(s) for s in self._tables(model, "SignatureDefs")),
            {self._text(m.Name()): self._metadata(m.Buffer()) for m in self._tables(model, "Metadata")},
        )

    # -- what is read, and what it costs -------------------------------------------------------------------

    def _tables_within(self) -> None:
        (root,) = struct.unpack_from("<I", self._data, 0)
        if not 8 <= root <= len(self._data) - 4:
            raise _DamageError("its first table lies outside the file")

    def _spend(self, units: int) -> None:
        self._left -= units
        if self._left < 0:
            raise _DamageError("its tables refer to more than can be read, or to the same bytes again and again")

    def _tables(self, owner: Any, field: str) -> Iterator[Any]:  # Any: classes of the schema
        count = getattr(owner, f"{field}Length")()
        if count * 4 > len(self._data):
            raise _DamageError(f"it claims {count} {field.lower()}")
        get: Callable[[int], Any] = getattr(owner, field)
        for i in range(count):
            self._spend(TABLE)
            yield get(i)

    def _text(self, text: bytes | None) -> str:
        self._spend(len(text or b""))
        return (text or b"").decode("utf-8", "replace")

    def _vector(self, owner: Any, field: str) -> Array:
        """A vector of numbers; empty where the file has none."""
        self._spend(getattr(owner, f"{field}Length")())
        found = getattr(owner, f"{field}AsNumpy")()
        return found if isinstance(found, np.ndarray) else np.empty(0, np.int32)

    def _numbers(self, owner: Any, field: str) -> tuple[int, ...]:
        return tuple(self._vector(owner, field).tolist())

    # -- tables --------------------------------------------------------------------------------------------

    def _buffer(self, buffer: Any) -> Array | None:
        found = buffer.DataAsNumpy()
        start, size = buffer.Offset(), buffer.Size()
        if start > 1:  # the constant lies behind the FlatBuffer
            if start + size > len(self._data):
                raise _DamageError(f"a constant of {size} bytes lies outside the file")
            return np.frombuffer(self._data, np.uint8, size, start)
        return found if isinstance(found, np.ndarray) and len(found) else None

    def _metadata(self, number: int) -> Array:
        data = _item(self._buffers, number, "buffer", "a metadata entry")
        return np.empty(0, np.uint8) if data is None else data

    def _code(self, code: Any) -> tuple[str, str, int]:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _names("BuiltinOperator").get(number, f"BUILTIN_{number}")
        return name, self._text(code.CustomCode()), code.Version()

    def _subgraph(self, index: int, subgraph: Any) -> Subgraph:
        tensors = tuple(self._tensor(i, t) for i, t in enumerate(self._tables(subgraph, "Tensors")))
        operators = tuple(self._operator(i, o) for i, o in enumerate(self._tables(subgraph, "Operators")))
        inputs, outputs = self._numbers(subgraph, "Inputs"), self._numbers(subgraph, "Outputs")
        for o in operators:
            _check_numbers(len(tensors), -1, f"operator {o.number} ({o.code})", o.inputs, o.outputs, o.intermediates)
        _check_numbers(len(tensors), 0, f"subgraph {index}", inputs, outputs)
        return Subgraph(index, self._text(subgraph.Name()), tensors, inputs, outputs, operators)

    def _tensor(self, index: int, tensor: Any) -> Tensor:
        shape, signature = self._numbers(tensor, "Shape"), self._numbers(tensor, "ShapeSignature")
        if len(shape) > MOST_AXES:
            raise _DamageError(f"tensor {index} claims {len(shape)} axes")
        data = _item(self._buffers, tensor.Buffer(), "buffer", f"tensor {index}")
        return Tensor(
            index,
            self._text(tensor.Name()),
            _names("TensorType").get(tensor.Type(), f"TYPE_{tensor.Type()}"),
            shape,
            signature or None,
            self._quantization(tensor.Quantization()),
            tensor.Buffer(),
            data,
            bool(tensor.IsVariable()),
            bool(tensor.HasRank()),
            tensor.Sparsity() is not None,
        )

    def _quantization(self, found: Any) -> Quantization | None:
        if found is None:
            return None
        details = _names("QuantizationDetails").get(found.DetailsType(), f"DETAILS_{found.DetailsType()}")
        scale, zero_point = self._vector(found, "Scale"), self._vector(found, "ZeroPoint")
        if not len(scale) and not len(zero_point) and details == "NONE":
            return None  # only the range is recorded
        return Quantization(scale, zero_point, found.QuantizedDimension(), details)

    def _operator(self, index: int, operator: Any) -> Operator:
        code = _item(self._codes, operator.OpcodeIndex(), "operator code", f"operator {index}")
        kind, options = self._options("BuiltinOptions", operator.BuiltinOptionsType(), operator.BuiltinOptions())
        if kind == "NONE":
            second = operator.BuiltinOptions2Type(), operator.BuiltinOptions2()
            kind, options = self._options("BuiltinOptions2", *second)
        return Operator(
            index,
            *code,
            self._numbers(operator, "Inputs"),
            self._numbers(operator, "Outputs"),
            self._numbers(operator, "Intermediates"),
            kind,
            options,
        )

    def _options(self, union: str, member: int, table: Any) -> tuple[str, dict[str, Any]]:
        kind = _names(union).get(member, f"OPTIONS_{member}")
        cls = getattr(self._schema, kind, None)
        if table is None or cls is None:
            return kind, {}
        options = cls()
        options.Init(table.Bytes, table.Pos)
        values: dict[str, Any] = {name: getattr(options, name)() for name in _fields(kind, 1)}
        plain = {k: self._text(v) if isinstance(v, bytes) else v for k, v in values.items()}
        vectors = {name: self._numbers(options, name) for name in _fields(kind, 2)}
        return kind, {k: v for k, v in (plain | vectors).items() if isinstance(v, int | float | str | tuple)}

    def _signature(self, signature: Any) -> Signature:
        key, inputs = self._text(signature.SignatureKey()), self._ports(signature, "Inputs")
        return Signature(key, inputs, self._ports(signature, "Outputs"), signature.SubgraphIndex())

    def _ports(self, signature: Any, field: str) -> dict[str, int]:
        return {self._text(m.Name()): m.TensorIndex() for m in self._tables(signature, field)}


@cache
def _names(enumeration: str) -> dict[int, str]:
    """Number -> name, of an enumeration of the schema."""
    members = vars(getattr(schema(), enumeration))
    return {number: name for name, number in members.items() if isinstance(number, int)}


@cache
def _fields(kind: str, operands: int) -> tuple[str, ...]:
    """The fields of an options table: numbers and strings (methods of one operand), vectors of numbers (of two)."""
    methods = {k: f for k, f in vars(getattr(schema(), kind)).items() if isinstance(f, FunctionType)}
    return tuple(
        name
        for name, f in methods.items()
        if f.__code__.co_argcount == operands
        and not name.endswith(("Length", "AsNumpy", "IsNone"))
        and (operands == 1 or f"{name}AsNumpy" in methods)
    )


def _item(items: list[T] | tuple[T, ...], number: int, what: str, owner: str) -> T:
    if not 0 <= number < len(items):
        raise _DamageError(f"{owner} refers to {what} {number}, and there are {len(items)}")
    return items[number]


def _check_numbers(count: int, least: int, owner: str, *lists: tuple[int, ...]) -> None:
    for number in (n for numbers in lists for n in numbers):
        if not least <= number < count:
            raise _DamageError(f"{owner} refers to tensor {number}, and there are {count}")


def _unpacked(data: Array, dtype: str) -> Array:
    """Elements of less than a byte, the first in the lowest bits."""
    bits = PACKED_BITS[dtype]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    raw = ((data[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)
    if dtype == "UINT4":
        return raw
    return (raw.astype(np.int8) << (8 - bits)) >> (8 - bits)

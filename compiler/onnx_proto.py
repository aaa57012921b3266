"""The protobuf messages and element types of ONNX, without the `onnx` package.

`from compiler.onnx_proto import ModelProto` takes the generated messages straight from the file inside the `onnx`
package: a quarter of the time of `import onnx`, which stays possible later in the same process and then shares them.

- `ModelProto, GraphProto, NodeProto, ... ` and `DecodeError`: loaded at first use
- `element_type(data_type, owner) -> DType`, `data_type_of(dtype) -> int`: `TensorProto.DataType` and `compiler.tensor`
- `unpack(bytes, bits, count)`, `pack(codes, bits)`: elements of fewer than eight bits, first element in the low bits
- `quote(name)`: a name from a file, safe in a message
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler import tensor as t
from compiler.errors import OnnxError
from compiler.tensor import Array, DType

if TYPE_CHECKING:
    from google.protobuf.message import DecodeError
    from onnx import (
        AttributeProto,
        FunctionProto,
        GraphProto,
        ModelProto,
        NodeProto,
        OperatorSetIdProto,
        SparseTensorProto,
        TensorProto,
        TypeProto,
        ValueInfoProto,
    )

__all__ = [
    "DATA_TYPES",
    "INLINE_LIMIT",
    "AttributeProto",
    "DecodeError",
    "FunctionProto",
    "GraphProto",
    "ModelProto",
    "NodeProto",
    "OperatorSetIdProto",
    "SparseTensorProto",
    "TensorProto",
    "TypeProto",
    "ValueInfoProto",
    "data_type_of",
    "element_type",
    "pack",
    "quote",
    "unpack",
]

MESSAGES = "onnx.onnx_ml_pb2"
INLINE_LIMIT = 2**31 - 1  # protobuf's own: no message may be larger

DATA_TYPES: dict[int, DType] = {
    1: t.F32,
    2: t.U8,
    3: t.I8,
    4: t.U16,
    5: t.I16,
    6: t.I32,
    7: t.I64,
    8: t.STRING,
    9: t.BOOL,
    10: t.F16,
    11: t.F64,
    12: t.U32,
    13: t.U64,
    14: t.C64,
    15: t.C128,
    16: t.BF16,
    17: t.DTYPES["f8e4m3fn"],
    18: t.DTYPES["f8e4m3fnuz"],
    19: t.DTYPES["f8e5m2"],
    20: t.DTYPES["f8e5m2fnuz"],
    21: t.U4,
    22: t.I4,
    23: t.F4,
    24: t.DTYPES["f8e8m0"],
    25: t.U2,
    26: t.I2,
}
_NUMBERS = {dtype: number for number, dtype in DATA_TYPES.items()}


def element_type(data_type: int, owner: str = "the model") -> DType:
    """The element type of a `TensorProto.DataType`; raises OnnxError, which names the owner, if there is none here."""
    try:
        return DATA_TYPES[data_type]
    except KeyError:
        raise OnnxError(f"{owner} has an element type, number {data_type}, that is not known") from None


def data_type_of(dtype: DType) -> int:
    """The `TensorProto.DataType` of an element type."""
    return _NUMBERS[dtype]


def unpack(packed: Array, bits: int, count: int) -> Array:
    """`count` codes of `bits` bits, one byte each, from the little-endian bit stream in `packed` (uint8)."""
    stream = np.unpackbits(packed, count=count * bits, bitorder="little")
    return np.packbits(stream.reshape(count, bits), axis=1, bitorder="little").reshape(count)


def pack(codes: Array, bits: int) -> Array:
    """The inverse of `unpack`; the last byte is filled up with zero bits."""
    stream = np.unpackbits(codes.reshape(-1, 1), axis=1, count=bits, bitorder="little")
    return np.packbits(stream.reshape(-1), bitorder="little")


def quote(name: str | bytes) -> str:
    """The name in quotes, on one line and of bounded length, whatever it holds (bytes: it was not UTF-8)."""
    short = repr(name[:200]) + ("..." if len(name) > 200 else "")
    return f'"{short[1:-1]}"' if isinstance(name, str) and short == f"'{name}'" and '"' not in name else short


def _load() -> ModuleType:
    if "onnx" in sys.modules or MESSAGES in sys.modules:
        return importlib.import_module(MESSAGES)
    package = importlib.util.find_spec("onnx")
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0], "onnx_ml_pb2.py") if folders else None
    spec = importlib.util.spec_from_file_location(MESSAGES, path) if path and path.is_file() else None
    if spec is None or spec.loader is None:
        return importlib.import_module(MESSAGES)
    module = importlib.util.module_from_spec(spec)
    sys.modules[MESSAGES] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[MESSAGES]
        raise
    return module


def __getattr__(name: str) -> Any:  # Any: a message class, whose type the imports above declare
    if name == "DecodeError":
        from google.protobuf import message  # loaded with the messages

        found = message.DecodeError
    elif name.endswith("Proto"):
        found = getattr(_load(), name)
    else:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    globals()[name] = found
    return found

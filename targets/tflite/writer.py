"""Writing a model as a FlatBuffer: the tables by the FlatBuffers builder, the constants after them in one pass.

A FlatBuffer refers to its parts by distances forward, so that a part may stand anywhere behind its table. The builder
makes everything but the constants (some hundred kilobytes); constants follow in the order of first use, each converted
and written in pieces, so that no more than one of those is in memory. Those distances have 32 bits, of which runtimes
use 31: in a larger file the constants lie behind the FlatBuffer, and each Buffer table has the place and size of its
own in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from compiler.errors import EmitError
from compiler.onnx_proto import quote
from compiler.onnx_write import AtomicFile
from compiler.tensor import Array, QuantParams
from targets.tflite.model import Constant, Model, Operator, Tensor
from targets.tflite.opset import BEHIND, oldest_runtime, options_name
from targets.tflite.schema import flatbuffers, schema

ALIGN = 16  # of constants, as the schema demands
LIMIT = 2**31 - 1  # bytes of a FlatBuffer
DATA, OFFSET, SIZE = 0, 1, 2  # fields of a Buffer table
UNKNOWN = 1  # stands for a place until it is known; a 0 would be left out
SIGNATURE = "serving_default"
IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
VERSION_KEY = "min_runtime_version"
NAME = 32  # characters at the end of a name that tensors inside keep: exporters make names of hundreds


def write(model: Model, path: Path) -> None:
    """Write the file; it appears complete or not at all. EmitError if it cannot be written."""
    tables = _Tables(model, behind=False)
    if tables.size + sum(c.nbytes + 2 * ALIGN for c in tables.constants) > LIMIT:
        tables = _Tables(model, behind=True)
    try:
        with ExitStack() as stack:
            file = AtomicFile(stack, path)
            with open(file.fd, "wb", closefd=False) as stream:
                tables.write(stream)
            file.publish()
    except OSError as e:
        reason = str(e.strerror or e).lower()
        raise EmitError(f"the model cannot be written to {quote(str(path))}: {reason}") from None


class _Tables:
    """The FlatBuffer without its constants, and where they are referred to. `behind` says that they lie behind it."""

    def __init__(self, model: Model, behind: bool) -> None:
        self._model = model
        self._behind = behind
        self._fb = flatbuffers().Builder(1 << 16)
        self._schema = schema()
        self.constants: list[Constant | _Raw] = []
        self._tensors: dict[int, int] = {}  # id of a tensor -> its number
        self._buffers: dict[Hashable, int] = {}  # a constant's place in memory -> the number of its buffer
        self._listed: list[Tensor] = []
        self._vectors: dict[Hashable, int] = {}  # element type and bytes of a vector -> its offset
        self._fields: list[int] = []  # offsets from the end of the tables that refer to constants
        for o in model.operators:
            self._list(t for t in (*o.inputs, *o.outputs) if t is not None)
        self._list(t for _, t in (*model.inputs, *model.outputs))
        self._fb.Finish(self._root(), file_identifier=IDENTIFIER)
        self._bytes: bytearray = self._fb.Output()
        self.size = len(self._bytes)

    def write(self, file: BinaryIO) -> None:
        """The tables, with the distances to the constants filled in, then the constants."""
        places, end = [], self.size
        for constant in self.constants:
            start = -(-(end + 4) // ALIGN) * ALIGN
            places.append(start)
            end = start + constant.nbytes
        for offset, start in zip(self._fields, places, strict=True):
            self._refer(self.size - offset, start)
        file.write(self._bytes)
        end = self.size
        for constant, start in zip(self.constants, places, strict=True):
            file.write(bytes(start - 4 - end) + struct.pack("<I", constant.nbytes))
            file.writelines(piece.reshape(-1).view(np.uint8).data for piece in constant.pieces())
            end = start + constant.nbytes

    def _refer(self, table: int, start: int) -> None:
        """Fill in where the data of a Buffer table starts."""
        vtable = table - struct.unpack_from("<i", self._bytes, table)[0]
        has_offset = struct.unpack_from("<H", self._bytes, vtable)[0] > 4 + 2 * OFFSET  # else it ends before
        (place,) = struct.unpack_from("<H", self._bytes, vtable + 4 + 2 * (OFFSET if has_offset else DATA))
        if has_offset:
            struct.pack_into("<Q", self._bytes, table + place, start)
        else:
            struct.pack_into("<I", self._bytes, table + place, start - 4 - table - place)

    def _list(self, tensors: Any) -> None:
        for t in tensors:
            if id(t) not in self._tensors:
                self._tensors[id(t)] = len(self._listed)
                self._listed.append(t)

    # -- tables, innermost first ---------------------------------------------------------------------------

    def _root(self) -> int:
        fb, s, model = self._fb, self._schema, self._model
        codes = list(dict.fromkeys((o.code, o.version) for o in model.operators))
        used = [*codes, BEHIND] if self._behind else codes
        runtime = oldest_runtime(used, model.runtimes).encode().ljust(16, b"\0")
        self.constants = [_Raw(runtime)]
        for constant in (t.constant for t in self._listed if t.constant is not None):
            if constant.place not in self._buffers:
                self.constants.append(constant)
                self._buffers[constant.place] = len(self.constants)  # the first buffer is empty
        self._fields = [self._buffer(c) for c in self.constants]
        buffer_list = self._offsets([self._buffer(None), *self._fields])
        subgraph = self._subgraph(codes)
        code_list = self._offsets([self._operator_code(*c) for c in codes])
        subgraphs = self._offsets([subgraph])
        signatures = self._offsets([self._signature()])
        metadata = self._offsets([self._metadata()])
        description = fb.CreateString(model.description)
        s.ModelStart(fb)
        s.ModelAddVersion(fb, SCHEMA_VERSION)
        s.ModelAddOperatorCodes(fb, code_list)
        s.ModelAddSubgraphs(fb, subgraphs)
        s.ModelAddDescription(fb, description)
        s.ModelAddBuffers(fb, buffer_list)
        s.ModelAddMetadata(fb, metadata)
        s.ModelAddSignatureDefs(fb, signatures)
        return int(s.ModelEnd(fb))

    def _buffer(self, data: Constant | _Raw | None) -> int:
        """A Buffer table; where its data starts is filled in when that has a place."""
        self._fb.StartObject(3)
        if isinstance(data, Constant) and data.nbytes and self._behind:
            self._fb.PrependUint64Slot(OFFSET, UNKNOWN, 0)
            self._fb.PrependUint64Slot(SIZE, data.nbytes, 0)
        elif data is not None:
            self._fb.PrependUint32Slot(DATA, UNKNOWN, 0)
        return int(self._fb.EndObject())

    def _subgraph(self, codes: list[tuple[str, int]]) -> int:
        fb, s = self._fb, self._schema
        numbers = {code: i for i, code in enumerate(codes)}
        ports = {id(t) for _, t in (*self._model.inputs, *self._model.outputs)}
        names = _unique_names([t.name if id(t) in ports else t.name[-NAME:] for t in self._listed])
        tensors = [self._tensor(t, name) for t, name in zip(self._listed, names, strict=True)]
        operators = [self._operator(o, numbers[o.code, o.version]) for o in self._model.operators]
        tensor_list, operator_list = self._offsets(tensors), self._offsets(operators)
        inputs = self._numbers([t for _, t in self._model.inputs])
        outputs = self._numbers([t for _, t in self._model.outputs])
        name = fb.CreateString("main")
        s.SubGraphStart(fb)
        s.SubGraphAddTensors(fb, tensor_list)
        s.SubGraphAddInputs(fb, inputs)
        s.SubGraphAddOutputs(fb, outputs)
        s.SubGraphAddOperators(fb, operator_list)
        s.SubGraphAddName(fb, name)
        return int(s.SubGraphEnd(fb))

    def _tensor(self, tensor: Tensor, unique_name: str) -> int:
        fb, s = self._fb, self._schema
        name = fb.CreateString(unique_name)
        shape = self._ints(tensor.shape)
        quantization = 0 if tensor.quant is None or tensor.dtype == "FLOAT32" else self._quantization(tensor.quant)
        s.TensorStart(fb)
        s.TensorAddShape(fb, shape)
        s.TensorAddType(fb, getattr(s.TensorType, tensor.dtype))
        s.TensorAddBuffer(fb, 0 if tensor.constant is None else self._buffers[tensor.constant.place])
        s.TensorAddName(fb, name)
        if quantization:
            s.TensorAddQuantization(fb, quantization)
        s.TensorAddIsVariable(fb, tensor.variable)
        s.TensorAddHasRank(fb, True)
        return int(s.TensorEnd(fb))

    def _quantization(self, params: QuantParams) -> int:
        fb, s = self._fb, self._schema
        scale = self._vector(np.array(params.scale, np.float32))
        zero_point = self._vector(np.array(params.zero_point, np.int64))
        s.QuantizationParametersStart(fb)
        s.QuantizationParametersAddScale(fb, scale)
        s.QuantizationParametersAddZeroPoint(fb, zero_point)
        s.QuantizationParametersAddQuantizedDimension(fb, params.axis or 0)
        return int(s.QuantizationParametersEnd(fb))

    def _operator(self, operator: Operator, number: int) -> int:
        fb, s = self._fb, self._schema
        inputs, outputs = self._numbers(operator.inputs), self._numbers(operator.outputs)
        kind = options_name(operator.code)
        member = getattr(s.BuiltinOptions, kind, 0)
        options = self._options(kind, operator.options) if member else 0
        s.OperatorStart(fb)
        s.OperatorAddOpcodeIndex(fb, number)
        s.OperatorAddInputs(fb, inputs)
        s.OperatorAddOutputs(fb, outputs)
        if member:
            s.OperatorAddBuiltinOptionsType(fb, member)
            s.OperatorAddBuiltinOptions(fb, options)
        return int(s.OperatorEnd(fb))

    def _options(self, kind: str, fields: dict[str, Any]) -> int:
        fb, s = self._fb, self._schema
        values = {k: self._ints(v) if isinstance(v, tuple) else v for k, v in fields.items()}
        getattr(s, f"{kind}Start")(fb)
        for field, value in values.items():
            getattr(s, f"{kind}Add{field}")(fb, value)
        return int(getattr(s, f"{kind}End")(fb))

    def _operator_code(self, code: str, version: int) -> int:
        fb, s = self._fb, self._schema
        number = getattr(s.BuiltinOperator, code)
        placeholder = s.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
        s.OperatorCodeStart(fb)
        s.OperatorCodeAddDeprecatedBuiltinCode(fb, min(number, placeholder))
        s.OperatorCodeAddVersion(fb, version)
        s.OperatorCodeAddBuiltinCode(fb, number)
        return int(s.OperatorCodeEnd(fb))

    def _signature(self) -> int:
        fb, s = self._fb, self._schema
        inputs = self._offsets([self._tensor_map(*port) for port in self._model.inputs])
        outputs = self._offsets([self._tensor_map(*port) for port in self._model.outputs])
        key = fb.CreateString(SIGNATURE)
        s.SignatureDefStart(fb)
        s.SignatureDefAddInputs(fb, inputs)
        s.SignatureDefAddOutputs(fb, outputs)
        s.SignatureDefAddSignatureKey(fb, key)
        return int(s.SignatureDefEnd(fb))

    def _tensor_map(self, name: str, tensor: Tensor) -> int:
        fb, s = self._fb, self._schema
        text = fb.CreateString(name)
        s.TensorMapStart(fb)
        s.TensorMapAddName(fb, text)
        s.TensorMapAddTensorIndex(fb, self._tensors[id(tensor)])
        return int(s.TensorMapEnd(fb))

    def _metadata(self) -> int:
        fb, s = self._fb, self._schema
        name = fb.CreateString(VERSION_KEY)
        s.MetadataStart(fb)
        s.MetadataAddName(fb, name)
        s.MetadataAddBuffer(fb, 1)
        return int(s.MetadataEnd(fb))

    def _numbers(self, tensors: Sequence[Tensor | None]) -> int:
        return self._ints([-1 if t is None else self._tensors[id(t)] for t in tensors])

    def _ints(self, values: Sequence[int]) -> int:
        return self._vector(np.array(values, np.int32))

    def _vector(self, values: Array) -> int:
        """A vector of numbers; tables share equal ones."""
        key = values.dtype.char, values.tobytes()
        found = self._vectors.get(key)
        if found is None:
            found = self._vectors[key] = int(self._fb.CreateNumpyVector(values))
        return found

    def _offsets(self, offsets: Sequence[int]) -> int:
        self._fb.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._fb.PrependUOffsetTRelative(offset)
        return int(self._fb.EndVector())


class _Raw:
    """Bytes that are stored like a constant."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.nbytes = len(data)

    def pieces(self) -> Iterator[Array]:
        yield np.frombuffer(self._data, np.uint8)


def _unique_names(wanted: Sequence[str]) -> list[str]:
    """The names, numbered where several tensors would share one."""
    used: set[str] = set()
    counts: dict[str, int] = {}
    names = []
    for base in wanted:
        name = base
        while name in used:
            counts[base] = counts.get(base, 0) + 1
            name = f"{base}_{counts[base]}"
        used.add(name)
        names.append(name)
    return names

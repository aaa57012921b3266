"""Small .tflite files made with the schema's object classes, to be edited and packed: a valid full-integer network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from compiler.tensor import Array
from targets.tflite.opset import options_name
from targets.tflite.schema import flatbuffers, schema

NUMPY = {"INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16, "INT32": np.int32, "FLOAT32": np.float32}
Scale = float | list[float]


class FileBuilder:
    """A file of one subgraph; everything of it is open to edits (`model` is a ModelT) until it is written."""

    def __init__(self) -> None:
        s = schema()
        self.model: Any = s.ModelT()  # Any: the generated schema classes have no types
        self.model.version = 3
        self.model.description = "test"
        self.model.buffers = [s.BufferT()]
        self.model.operatorCodes = []
        self.model.subgraphs = [s.SubGraphT()]
        self.graph: Any = self.model.subgraphs[0]
        self.graph.name = "main"
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str = "INT8",
        scale: Scale | None = None,
        zero_point: int = 0,
        axis: int = 0,
        data: Array | None = None,
    ) -> int:
        """A new tensor; its number."""
        s = schema()
        t = s.TensorT()
        t.name, t.shape, t.type = name, list(shape), getattr(s.TensorType, dtype)
        t.buffer = 0
        if data is not None:
            buffer = s.BufferT()
            buffer.data = np.array(data, NUMPY[dtype]).reshape(-1).view(np.uint8)
            self.model.buffers.append(buffer)
            t.buffer = len(self.model.buffers) - 1
        if scale is not None:
            values = scale if isinstance(scale, list) else [scale]
            t.quantization = s.QuantizationParametersT()
            t.quantization.scale, t.quantization.zeroPoint = values, [zero_point] * len(values)
            t.quantization.quantizedDimension = axis
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def operator(
        self,
        code: str,
        inputs: list[int],
        outputs: list[int],
        version: int = 1,
        place: int | None = None,
        **fields: Any,
    ) -> int:
        """A new operator, at the end or at a place; its place."""
        s = schema()
        opcode = s.OperatorCodeT()
        opcode.builtinCode = getattr(s.BuiltinOperator, code)
        opcode.deprecatedBuiltinCode = min(opcode.builtinCode, 127)
        opcode.version = version
        self.model.operatorCodes.append(opcode)
        o = s.OperatorT()
        o.opcodeIndex = len(self.model.operatorCodes) - 1
        o.inputs, o.outputs = inputs, outputs
        kind = options_name(code)
        if hasattr(s, f"{kind}T"):
            o.builtinOptionsType, o.builtinOptions = getattr(s.BuiltinOptions, kind), getattr(s, f"{kind}T")()
            for field, value in fields.items():
                assert hasattr(o.builtinOptions, field), field
                setattr(o.builtinOptions, field, value)
        place = len(self.graph.operators) if place is None else place
        self.graph.operators.insert(place, o)
        return place

    def code(self, place: int) -> Any:
        """The operator code of the operator at a place; each operator has its own."""
        return self.model.operatorCodes[self.graph.operators[place].opcodeIndex]

    def number(self, name: str) -> int:
        """The number of the tensor of this name."""
        return next(i for i, t in enumerate(self.graph.tensors) if t.name == name)

    def named(self, name: str) -> Any:
        return self.graph.tensors[self.number(name)]

    def packed(self) -> bytes:
        builder = flatbuffers().Builder(1 << 12)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def write(self, path: Path) -> Path:
        path.write_bytes(self.packed())
        return path


def int8_network() -> FileBuilder:
    """Convolutions, a sum, two poolings, their concatenation, tanh, a dense layer and softmax, all by the rules.

    Operators: 0 CONV_2D, 1 DEPTHWISE_CONV_2D, 2 ADD, 3 MAX_POOL_2D, 4 AVERAGE_POOL_2D, 5 CONCATENATION, 6 TANH,
    7 RESHAPE, 8 FULLY_CONNECTED, 9 SOFTMAX."""
    b, rng = FileBuilder(), np.random.default_rng(7)

    def weights(*shape: int) -> Array:
        return rng.integers(-127, 128, shape)

    def bias(count: int) -> Array:
        return rng.integers(-1000, 1000, count)

    kernel = [0.01, 0.02, 0.03, 0.04]
    spread = [0.05, 0.04, 0.03, 0.02]
    x = b.tensor("x", (1, 8, 8, 4), scale=0.1, zero_point=3)
    w = b.tensor("conv/weights", (4, 3, 3, 4), scale=kernel, data=weights(4, 3, 3, 4))
    wb = b.tensor("conv/bias", (4,), "INT32", [_product(0.1, k) for k in kernel], data=bias(4))
    c = b.tensor("conv", (1, 8, 8, 4), scale=0.2, zero_point=-5)
    d = b.tensor("depthwise/weights", (1, 3, 3, 4), scale=spread, axis=3, data=weights(1, 3, 3, 4))
    db = b.tensor("depthwise/bias", (4,), "INT32", [_product(0.2, k) for k in spread], data=bias(4))
    dw = b.tensor("depthwise", (1, 8, 8, 4), scale=0.25, zero_point=4)
    a = b.tensor("sum", (1, 8, 8, 4), scale=0.3, zero_point=-1)
    m = b.tensor("max", (1, 4, 4, 4), scale=0.3, zero_point=-1)
    p = b.tensor("mean", (1, 4, 4, 4), scale=0.3, zero_point=-1)
    k = b.tensor("joined", (1, 4, 4, 8), scale=0.3, zero_point=-1)
    t = b.tensor("tanh", (1, 4, 4, 8), scale=1 / 128)
    r = b.tensor("flat", (1, 128), scale=1 / 128)
    shape = b.tensor("shape", (2,), "INT32", data=np.array([1, 128]))
    f = b.tensor("dense/weights", (10, 128), scale=0.015, data=weights(10, 128))
    fb = b.tensor("dense/bias", (10,), "INT32", _product(1 / 128, 0.015), data=bias(10))
    y = b.tensor("dense", (1, 10), scale=0.125, zero_point=11)
    z = b.tensor("softmax", (1, 10), scale=1 / 256, zero_point=-128)
    b.operator("CONV_2D", [x, w, wb], [c], 3, strideW=1, strideH=1)
    b.operator("DEPTHWISE_CONV_2D", [c, d, db], [dw], 3, strideW=1, strideH=1, depthMultiplier=1)
    b.operator("ADD", [c, dw], [a], 2)
    window = {"strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2}
    b.operator("MAX_POOL_2D", [a], [m], 2, **window)
    b.operator("AVERAGE_POOL_2D", [a], [p], 2, **window)
    b.operator("CONCATENATION", [m, p], [k], 2, axis=3)
    b.operator("TANH", [k], [t], 2)
    b.operator("RESHAPE", [t, shape], [r], newShape=[1, 128])
    b.operator("FULLY_CONNECTED", [r, f, fb], [y], 4)
    b.operator("SOFTMAX", [y], [z], 2, beta=1.0)
    b.graph.inputs, b.graph.outputs = [x], [z]
    return b


def _product(first: float, second: float) -> float:
    return float(np.float32(first) * np.float32(second))

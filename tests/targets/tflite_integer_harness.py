"""Small .tflite files with quantized tensors, and what LiteRT's kernels make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer import IntegerModel
from targets.tflite.opset import options_name
from targets.tflite.schema import flatbuffers, schema


class Spec(NamedTuple):
    """A tensor: its data where it is a constant, its shape elsewhere. One object is one tensor of the file."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: float | Sequence[float] | None = None
    zero_point: int = 0
    axis: int = 0
    data: Array | None = None
    variable: bool = False

    @property
    def unit(self) -> float:
        """The scale, the greatest of several."""
        return float(np.max(np.asarray(self.scale, np.float64)))


class Step(NamedTuple):
    """An operator; options are named as in the schema's object classes."""

    code: str
    inputs: Sequence[Spec | None]
    outputs: Sequence[Spec]
    version: int
    options: Mapping[str, Any]
    intermediates: Sequence[Spec] = ()


def constant(data: Array, scale: float | Sequence[float] | None = None, zero_point: int = 0, axis: int = 0) -> Spec:
    return Spec(data.shape, data.dtype.name, scale, zero_point, axis, data)


def ints(*values: int) -> Spec:
    return constant(np.array(values, np.int32))


def step(code: str, inputs: Sequence[Spec | None], outputs: Sequence[Spec], version: int = 1, **options: Any) -> Step:
    return Step(code, inputs, outputs, version, options)


def write(path: Path, *steps: Step) -> Path:
    """A file of these operators. Its inputs are the operands that are neither constants nor computed, its outputs the
    results that nobody reads; tensors are named t0, t1, ..."""
    path.write_bytes(_File(steps).packed())
    return path


class _File:
    def __init__(self, steps: Sequence[Step]) -> None:
        self._s = schema()
        self._numbers: dict[int, int] = {}
        self._model, self._graph = self._s.ModelT(), self._s.SubGraphT()
        self._model.version, self._model.description, self._model.buffers = 3, "", [self._s.BufferT()]
        self._graph.tensors, self._graph.name = [], "main"
        self._model.operatorCodes = [self._code(s) for s in steps]
        self._graph.operators = [self._operator(i, s) for i, s in enumerate(steps)]
        read = [t for s in steps for t in s.inputs if t is not None and t.data is None and not t.variable]
        made = [t for s in steps for t in s.outputs]
        inputs = [self._number(t) for t in read if all(t is not m for m in made)]
        self._graph.inputs = list(dict.fromkeys(inputs))
        self._graph.outputs = [self._number(t) for t in made if all(t is not r for r in read)]
        self._model.subgraphs = [self._graph]

    def packed(self) -> bytes:
        builder = flatbuffers().Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _number(self, spec: Spec) -> int:
        if id(spec) not in self._numbers:
            self._numbers[id(spec)] = len(self._graph.tensors)
            self._graph.tensors.append(self._tensor(spec, f"t{len(self._graph.tensors)}"))
        return self._numbers[id(spec)]

    def _code(self, step: Step) -> Any:  # Any: the generated classes have no types
        code = self._s.OperatorCodeT()
        code.builtinCode, code.version = getattr(self._s.BuiltinOperator, step.code), step.version
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        return code

    def _operator(self, place: int, step: Step) -> Any:
        operator = self._s.OperatorT()
        operator.opcodeIndex = place
        operator.inputs = [-1 if t is None else self._number(t) for t in step.inputs]
        operator.outputs = [self._number(t) for t in step.outputs]
        operator.intermediates = [self._number(t) for t in step.intermediates]
        kind = options_name(step.code)
        if hasattr(self._s.BuiltinOptions, kind):
            operator.builtinOptionsType = getattr(self._s.BuiltinOptions, kind)
            operator.builtinOptions = getattr(self._s, f"{kind}T")()
            for name, value in step.options.items():
                assert hasattr(operator.builtinOptions, name), name
                setattr(operator.builtinOptions, name, value)
        return operator

    def _tensor(self, spec: Spec, name: str) -> Any:
        tensor = self._s.TensorT()
        tensor.name, tensor.shape, tensor.buffer, tensor.hasRank = name, list(spec.shape), 0, True
        tensor.type, tensor.isVariable = getattr(self._s.TensorType, spec.dtype.upper()), spec.variable
        if spec.data is not None:
            buffer = self._s.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(spec.data).tobytes(), np.uint8)
            tensor.buffer = len(self._model.buffers)
            self._model.buffers.append(buffer)
        if spec.scale is not None:
            tensor.quantization = self._s.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(np.asarray(spec.scale, np.float32))
            tensor.quantization.zeroPoint = np.full(len(tensor.quantization.scale), spec.zero_point, np.int64)
            tensor.quantization.quantizedDimension = spec.axis
        return tensor


def interpreter(path: Path, reference: bool = True, keep: bool = False) -> Any:  # Any: LiteRT has no types
    """LiteRT with its reference kernels, or with the optimized ones without delegate; `keep` lets all tensors be read
    after a run."""
    litert = import_module("ai_edge_litert.interpreter")
    kinds = litert.OpResolverType
    opened = litert.Interpreter(
        model_path=str(path),
        num_threads=1,
        experimental_op_resolver_type=kinds.BUILTIN_REF if reference else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=keep,
    )
    opened.allocate_tensors()
    return opened


def executed(opened: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of an interpreter, by name."""
    for detail in opened.get_input_details():
        opened.set_tensor(detail["index"], feeds[detail["name"]])
    opened.invoke()
    return {d["name"]: opened.get_tensor(d["index"]).copy() for d in opened.get_output_details()}


def random_feeds(model: IntegerModel, seed: int, least: int = -128, greatest: int = 127) -> dict[str, Array]:
    """Random integers over a range, shifted by 128 for unsigned ones; normal numbers for float inputs."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for name, t in model.inputs.items():
        if t.dtype == "FLOAT32":
            feeds[name] = rng.normal(0, 2, t.shape).astype(np.float32)
        elif t.dtype == "BOOL":
            feeds[name] = rng.integers(0, 2, t.shape).astype(np.bool_)
        else:
            shift = 128 if t.dtype == "UINT8" else 0
            feeds[name] = (rng.integers(least, greatest + 1, t.shape) + shift).astype(t.dtype.lower())
    return feeds


def assert_same(path: Path, seed: int, least: int = -128, reference: bool = True, runs: int = 1) -> None:
    """The evaluator and LiteRT's kernels agree on every bit, run after run."""
    model, opened = IntegerModel(path), interpreter(path, reference)
    for i in range(runs):
        feeds = random_feeds(model, seed + i, least)
        ours, theirs = model.run(feeds), executed(opened, feeds)
        assert ours.keys() == theirs.keys()
        for name, expected in theirs.items():
            assert ours[name].dtype == expected.dtype
            np.testing.assert_array_equal(ours[name], expected)

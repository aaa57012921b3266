"""One MIL operation at a time: Apple's type inference of it, and our package of it, executed."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from compiler.tensor import Array
from targets.coreml.evaluate import Evaluator, evaluate_package
from targets.coreml.mil import Program, Var

Operand = Any  # what an operation takes: arrays, literals, tuples of arrays


class In(NamedTuple):
    """An operand that is a model input rather than a constant."""

    array: Array


@functools.cache
def coremltools() -> ModuleType:
    """The coremltools package, whose import warns and takes seconds; without it the test is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("coremltools")
    assert isinstance(module, ModuleType)
    return module


class Inferred(NamedTuple):
    """What coremltools says of an operation: types of its results, and their values if it computes them."""

    types: list[tuple[str, tuple[int, ...]]]
    values: list[Array | None]


def infer(kind: str, operands: Mapping[str, Operand], ios: str) -> Inferred:
    """Apple's type (and value) inference of one operation on constants."""
    ct = coremltools()
    from coremltools.converters.mil.mil import Builder, Function, types

    arguments = {name: _bare(value) for name, value in operands.items() if value is not None}
    with Function({}, opset_version=getattr(ct.target, ios)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = getattr(Builder, kind)(**arguments)
    results = result if isinstance(result, (tuple, list)) else [result]
    return Inferred(
        [(types.builtin_to_string(var.dtype), tuple(int(n) for n in var.shape)) for var in results],
        [None if var.val is None else np.asarray(var.val) for var in results],
    )


def _bare(value: Operand) -> Operand:
    if isinstance(value, In):
        return value.array
    return tuple(_bare(item) for item in value) if isinstance(value, tuple) and not isinstance(value, In) else value


class Ran(NamedTuple):
    """Outputs of an executed operation, and what the evaluator had to say."""

    outputs: list[Array]
    warnings: list[str]
    inferred: Inferred


def run(
    path: Path, kind: str, operands: Mapping[str, Operand], ios: str = "iOS18", types: Inferred | None = None
) -> Ran:
    """Build a package of one operation, let coremltools read it back and infer its types anew, and execute it."""
    inferred = types or infer(kind, operands, ios)
    program, feeds = Program(ios), {}

    def bind(name: str, value: Operand) -> Operand:
        if isinstance(value, In):
            dtype = {"float32": "fp32", "float16": "fp16", "int32": "int32"}[value.array.dtype.name]
            feeds[name] = value.array
            return program.input(name, dtype, value.array.shape)
        if isinstance(value, tuple):
            return [bind(f"{name}_{i}", item) for i, item in enumerate(value)]
        return program.const(value, name=name) if isinstance(value, np.ndarray) else value

    bound = {name: bind(f"in_{name}", value) for name, value in operands.items()}
    for i, var in enumerate(program.op(kind, bound, inferred.types)):
        program.output(_exposed(program, var), f"out_{i}")
    program.save(path)
    reload(path)
    evaluator = evaluate_package(path)
    outputs = evaluator.run(feeds)
    return Ran([outputs[f"out_{i}"] for i in range(len(outputs))], evaluator.warnings, inferred)


def _exposed(program: Program, var: Var) -> Var:
    """`var`, or a cast of it if Core ML has no outputs of its type."""
    if var.dtype in ("fp32", "fp16", "int32"):
        return var
    return program.op("cast", {"x": var, "dtype": "int32"}, [("int32", var.shape)])[0]


def _read(path: Path) -> Any:  # Any: coremltools' program, whose types are not known here
    coremltools()
    from coremltools.converters.mil.frontend.milproto.load import load
    from coremltools.models.utils import load_spec

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec = load_spec(str(path))
        weights = path / "Data" / "com.apple.CoreML" / "weights"
        return load(spec, spec.specificationVersion, str(weights))


def reload(path: Path) -> str:
    """The package as coremltools reads it, every operation's type inferred anew; its text."""
    return str(_read(path))


def expansions(path: Path) -> list[Array]:
    """What coremltools expands the compressed weights of a package to, in the order of the program."""
    operations = _read(path).functions["main"].operations
    return [np.asarray(op.materialized_val_inference()) for op in operations if op.op_type.startswith("constexpr_")]


def evaluator_of(path: Path, program: Program) -> Evaluator:
    """Save `program` and read it back."""
    program.save(path)
    return evaluate_package(path)


def onnx_run(
    op: str, arrays: Mapping[str, Array | None], outputs: int = 1, opset: int = 21, **attributes: Any
) -> list[Array]:
    """ONNX Runtime's result of one operator; an operand of None is omitted."""
    given = {name: array for name, array in arrays.items() if array is not None}
    node = helper.make_node(
        op, [n if arrays[n] is not None else "" for n in arrays], [f"y{i}" for i in range(outputs)], **attributes
    )
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given.items()
    ]
    results = [helper.make_tensor_value_info(f"y{i}", TensorProto.UNDEFINED, None) for i in range(outputs)]
    model = helper.make_model(
        helper.make_graph([node], "one", inputs, results), opset_imports=[helper.make_opsetid("", opset)]
    )
    model.ir_version = 10
    for result in model.graph.output:
        result.ClearField("type")
    model = onnx.shape_inference.infer_shapes(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, given)]


Expected = Callable[[], list[Array]]


class Case(NamedTuple):
    """An operation on operands, and what it gives: `expected`, or else what coremltools computes for constants.

    `types` stand in for Apple's type inference where that fails on constants.
    """

    kind: str
    operands: dict[str, Operand]
    expected: Expected | None = None
    ios: str = "iOS18"
    atol: float = 1e-6
    types: list[tuple[str, tuple[int, ...]]] | None = None

    def check(self, path: Path) -> None:
        """Execute it and compare."""
        types = None if self.types is None else Inferred(self.types, [])
        ran = run(path / "m.mlpackage", self.kind, self.operands, self.ios, types)
        wanted = ran.inferred.values if self.expected is None else self.expected()
        assert len(ran.outputs) == len(wanted)
        for output, value in zip(ran.outputs, wanted, strict=True):
            assert value is not None, "coremltools does not compute this operation; the case needs a value of its own"
            assert output.shape == value.shape
            np.testing.assert_allclose(output.astype(np.float64), value.astype(np.float64), 1e-5, self.atol)

    def __str__(self) -> str:
        return self.kind

"""Libraries of .tflite files, built for this machine and for aarch64, and whether they agree with the integer
evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from compiler.tensor import Array
from targets.neon.build import Toolchain, build, emulated, native, run
from targets.neon.emit import Form, write_library
from targets.neon.int8.emit import lowered, objections
from targets.tflite.integer import IntegerModel
from targets.tflite.integer import model as integer_model
from targets.tflite.integer.kernel import BOUNDS, Node
from targets.tflite.integer.model import KERNELS
from targets.tflite.integer.windows import Window, windows
from targets.tflite.reader import STORED, Operator, Tensor, read
from tests.targets.neon_kernels import WARNINGS

CPUS = {"base": "cortex-a72", "dotprod": "neoverse-n1", "i8mm": "max"}


def toolchains(*variants: str) -> list[Toolchain]:
    """What the machine has, with every warning an error: natively, and emulated processors of some generations."""
    checked = ("-O0", "-fsanitize=undefined", "-fno-sanitize-recover", *WARNINGS)
    found = [native(checked), *(emulated(("-O2", "-static", *WARNINGS), CPUS[v]) for v in variants)]
    return [t for t in found if t is not None]


def library(path: Path, to: Path, isa: str = "auto", threads: int = 1) -> Path:
    """The library of a file; all of it has to be supported."""
    file = read(path)
    assert objections(file) == []
    model = MixedModel(path)
    made = lowered(file, isa, list(model.inputs), list(model.outputs), threads=threads)
    write_library(made, "test", to, Form(threads=threads))
    return to


def assert_exact(
    path: Path,
    feeds: Sequence[Mapping[str, Array]],
    tmp: Path,
    isa: str = "auto",
    variants: Sequence[str] = tuple(CPUS),
    threads: int = 1,
) -> None:
    """The library and the evaluator agree on every bit, on each processor; floats between integers within rounding."""
    model = MixedModel(path)
    folder = library(path, tmp / "library", isa, threads)
    flags = ["--threads", str(threads)] if threads > 1 else []
    programs: dict[tuple[str, ...], Path] = {}
    for tools in toolchains(*variants):
        scratch = tmp / str(len(programs))
        program = programs.get(tuple(tools.compiler))
        if program is None:
            scratch.mkdir()
            program = programs[tuple(tools.compiler)] = build(folder, tools, scratch)
        scratch = program.parent
        for given in feeds:
            files = []
            for i, name in enumerate(model.inputs):
                files.append(scratch / f"in{i}.bin")
                files[-1].write_bytes(np.ascontiguousarray(given[name]).tobytes())
            model.reset()
            run(program, tools, folder, files, scratch, flags)
            for i, (name, expected) in enumerate(model.run(given).items()):
                got = np.fromfile(scratch / f"{i}.bin", expected.dtype)[: expected.size]
                where = f"{name} on {tools.label} {tools.runs}"
                if expected.dtype == np.float32:
                    np.testing.assert_allclose(got, expected.reshape(-1), 2e-6, 1e-6, err_msg=where)
                else:
                    np.testing.assert_array_equal(got, expected.reshape(-1), where)


class MixedModel(IntegerModel):
    """The evaluator with floats between integers, which it refuses by itself; in float32, an operator at a time."""

    def __init__(self, path: Path) -> None:
        graph = read(path).subgraphs[0]
        self._floats = {o.number for o in graph.operators if is_real(o, graph.tensors)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(integer_model, "check_operator", lambda *_: None)
            super().__init__(path)

    def values(self, feeds: Mapping[str, Array]) -> dict[int, Array]:
        values = self._constants | {self.inputs[name].number: array for name, array in self._checked(feeds)}
        for operator in self._graph.operators:
            node = Node(operator, self._graph.tensors, values, self._states)
            is_float = operator.number in self._floats
            if operator.code in LOGICAL:
                results: Array | tuple[Array, ...] = LOGICAL[operator.code](
                    *map(node.value, range(len(operator.inputs)))
                )
            else:
                results = real(node) if is_float else KERNELS[operator.code].evaluate(node)
            listed = results if isinstance(results, tuple) else (results,)
            values |= zip(operator.outputs, listed, strict=True)
        return values


def is_real(operator: Operator, tensors: Sequence[Tensor]) -> bool:
    """Whether an operator computes with floats."""
    dtype = tensors[operator.inputs[0]].dtype if operator.inputs else ""
    return dtype == "FLOAT32" and operator.code in (*REAL, *PRODUCTS)


def real(node: Node) -> Array:
    """The result of an operator of floats."""
    code = node.operator.code
    y = _product(node) if code in PRODUCTS else REAL[code](*(node.value(i) for i in range(len(node.operator.inputs))))
    low, high = BOUNDS[node.option("FusedActivationFunction")]
    limited = y if low is None and high is None else np.clip(y, low, high)
    return limited.astype(STORED[node.result().dtype])


def _product(node: Node) -> Array:
    x, w, y = node.value(0).astype(np.float64), node.value(1).astype(np.float64), node.result()
    bias = node.value(2) if node.has(2) else 0.0
    if node.operator.code == "FULLY_CONNECTED":
        return (x.reshape(-1, w.shape[1]) @ w.T + bias).reshape(y.shape)
    window = Window.of(node, w.shape[1:3])
    sums = np.zeros(y.shape)
    for (i, j), piece in windows(x, window, 0):
        sums += piece * w[0, i, j] if node.operator.code == "DEPTHWISE_CONV_2D" else piece @ w[:, i, j].T
    return sums + bias


LOGICAL = {"LOGICAL_AND": np.logical_and, "LOGICAL_OR": np.logical_or, "LOGICAL_NOT": np.logical_not}
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
REAL: dict[str, Callable[..., Array]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
    "TANH": np.tanh,
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x.astype(np.float64))),
    "HARD_SWISH": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "RSQRT": lambda x: 1 / np.sqrt(x),
    "NEG": np.negative,
    "LOG": np.log,
    "FLOOR": np.floor,
    "EXP": np.exp,
    "SQRT": np.sqrt,
    "ABS": np.abs,
    "MAXIMUM": np.maximum,
    "RELU": lambda x: np.maximum(x, 0),
    "SQUARED_DIFFERENCE": lambda x, y: np.square(x - y),
    "LESS": np.less,
    "SOFTMAX": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "BATCH_MATMUL": np.matmul,
    "MEAN": lambda x, axes: x.mean(tuple(axes.tolist()), keepdims=True),
    "REDUCE_MAX": lambda x, axes: x.max(tuple(axes.tolist()), keepdims=True),
}

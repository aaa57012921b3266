"""ONNX Runtime as the judge: runs ONNX models and parts of graphs on seeded or given inputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.errors import UsageError, VerificationError
from compiler.graph import Graph
from compiler.onnx_export import export_bytes
from compiler.tensor import BOOL, STRING, Array, TensorType, dtype_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INDEX_LIMIT = 4  # seeded integers lie in 0..3, so that they are valid indices almost everywhere


def input_types(graph: Graph) -> dict[str, TensorType]:
    """Types of the graph's inputs, by name."""
    return {v.name: v.type for v in graph.inputs}


def seeded_inputs(types: Mapping[str, TensorType], seed: int) -> dict[str, Array]:
    """Standard normal floats, small non-negative integers, fair booleans; the same for the same seed."""
    rng = np.random.default_rng(seed)
    return {name: _seeded(rng, t) for name, t in types.items()}


def _seeded(rng: np.random.Generator, t: TensorType) -> Array:
    if t.dtype is STRING:
        return np.full(t.dims, "", object)
    if t.dtype is BOOL:
        return rng.random(t.dims) < 0.5
    if t.dtype.is_float:
        return np.asarray(rng.standard_normal(t.dims)).astype(t.dtype.numpy)
    return np.asarray(rng.integers(0, INDEX_LIMIT, t.dims)).astype(t.dtype.numpy)


def checked_inputs(inputs: Mapping[str, Array], types: Mapping[str, TensorType]) -> dict[str, Array]:
    """The inputs as arrays in the model's order; UsageError naming what is missing, unknown or of a wrong type."""
    unknown, missing = [n for n in inputs if n not in types], [n for n in types if n not in inputs]
    if unknown or missing:
        parts = [f"unknown: {', '.join(map(repr, unknown))}"] * bool(unknown) + [
            f"missing: {', '.join(map(repr, missing))}"
        ] * bool(missing)
        raise UsageError(
            f"the inputs do not fit the model ({'; '.join(parts)})",
            hint=f"it takes {', '.join(f'{n!r} {t}' for n, t in types.items())}",
        )
    checked = {}
    for name, t in types.items():
        array = np.asarray(inputs[name])
        if array.shape != t.shape:
            raise UsageError(
                f"input {name!r} has shape {list(array.shape)}, the model was compiled for {list(t.shape)}"
            )
        if dtype_of(array) is not t.dtype:
            if array.dtype.kind != t.dtype.numpy.kind:
                raise UsageError(f"input {name!r} has element type {array.dtype}, the model takes {t.dtype}")
            array = array.astype(t.dtype.numpy)
        checked[name] = array
    return checked


def open_session(model: bytes | str | os.PathLike[str]) -> InferenceSession:
    """A silent ONNX Runtime session that computes the model as it is written: no rewriting, no integer kernels for
    quantized models."""
    import onnxruntime  # heavy; loaded when numbers are compared

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = os.cpu_count() or 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source: Any = model if isinstance(model, bytes) else os.fspath(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime raises classes of its own without a common base
        raise VerificationError(
            f"ONNX Runtime does not load the model: {_first_line(e)}",
            hint="compile with --verify off to go without the comparison",
        ) from e


def run_session(
    session: InferenceSession, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
) -> dict[str, Array]:
    """Outputs by name; `inputs` may hold more than the session takes."""
    names = list(outputs) if outputs is not None else [o.name for o in session.get_outputs()]
    feeds = {i.name: inputs[i.name] for i in session.get_inputs()}
    try:
        return dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as e:  # onnxruntime raises classes of its own without a common base
        raise VerificationError(
            f"ONNX Runtime does not run the model: {_first_line(e)}",
            hint="compile with --verify off to go without the comparison",
        ) from e


def run_graph(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of a layer graph, exported and executed by ONNX Runtime."""
    return run_session(open_session(export_bytes(graph)), inputs)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]

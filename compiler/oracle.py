"""ONNX Runtime as the judge: runs ONNX models and parts of graphs on seeded or given inputs."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compiler.errors import CompileError, UsageError, VerificationError
from compiler.graph import Graph
from compiler.onnx_export import export_bytes, save_model
from compiler.onnx_file import read_model
from compiler.onnx_mapped import is_large, mapped
from compiler.onnx_reference import COMPLETE_OPSET, RUNTIME_OPSET, OnnxReference, Source, is_too_new, retold
from compiler.seeds import inputs_for
from compiler.tensor import Array, TensorType, dtype_of
from compiler.views import peak_bytes

MAPPED_FROM = 1 << 26  # bytes of the constants of a graph that is executed


class Reference(NamedTuple):
    """Inputs of a model, and what ONNX Runtime makes of them with the original file; by name."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


def reference_run(
    source: object, graph: Graph, frozen: Mapping[str, Array], given: Mapping[str, Array] | None, seed: int
) -> Reference:
    """Run the original model on the given inputs or on seeded ones.

    graph   the model as it was imported
    frozen  the inputs that became constants

    Raises UsageError for inputs that do not fit it, VerificationError if ONNX Runtime cannot run it, CompileError if
    the machine cannot hold its intermediate values.
    """
    types = input_types(graph)
    if given is not None:
        feeds = checked_inputs(given, types)
        _expect_memory(graph)
    else:
        _expect_memory(graph)
        feeds = inputs_for(graph, seed)
    results = _run_source(source, {**feeds, **frozen})
    return Reference(feeds, {name: results[name] for name in graph.output_names})


def reference_of(graph: Graph, given: Mapping[str, Array] | None, seed: int) -> Reference:
    """The same for a layer graph that stands for another model than the original. Raises as `reference_run`."""
    feeds = inputs_for(graph, seed) if given is None else checked_inputs(given, input_types(graph))
    _expect_memory(graph)
    return Reference(feeds, run_graph(graph, feeds))


def _run_source(source: object, inputs: Mapping[str, Array]) -> dict[str, Array]:
    model = _for_session(source)
    if isinstance(model, bytes) or not is_large(model):
        return run_session(Session(model, once=True), inputs)
    import tempfile  # for large models only

    with tempfile.TemporaryDirectory(prefix="cincel-") as folder:
        return run_session(Session(mapped(model, Path(folder)) or model, once=True), inputs)


def _expect_memory(graph: Graph) -> None:
    """Refuse to run what can only end in swapping or in the system killing this process: the artifact is executed
    after the model, while the model's inputs and outputs are still held."""
    held = sum(v.type.nbytes for v in {*graph.inputs, *graph.outputs})
    needed, available = held + peak_bytes(graph), available_memory()
    if needed > available // 2:
        raise CompileError(
            f"running the model takes {needed / 2**30:,.1f} GiB of memory, more than half of the"
            f" {available / 2**30:,.1f} that are available",
            hint="compile with --verify off, or with smaller shapes (--input)",
        )


def available_memory() -> int:
    """Bytes that this process may still take without swapping, as the system and the limit of its address space have
    it."""
    page = os.sysconf("SC_PAGE_SIZE")
    available = page * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        available = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        with suppress(OSError, ValueError, IndexError):
            limit -= page * int(Path("/proc/self/statm").read_text("ascii").split()[0])
        available = min(available, max(limit, 0))
    return available


def _for_session(source: object) -> Source:
    """A form of the source that ONNX Runtime opens."""
    if isinstance(source, str | os.PathLike):
        if Path(source).suffix != ".onnxtxt":
            return source
        source = read_model(source).model
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if type(source).__module__.partition(".")[0] == "onnx_graphsurgeon":
        source = read_model(source).model
    try:
        serialized: bytes = source.SerializeToString()  # type: ignore[attr-defined]  # read_model took it: a ModelProto
    except ValueError as e:
        raise VerificationError(
            f"the model cannot be handed to ONNX Runtime: {_first_line(e)}",
            hint="compile it from a file, or with --verify off",
        ) from None
    return serialized


def input_types(graph: Graph) -> dict[str, TensorType]:
    """Types of the graph's inputs, by name."""
    return {v.name: v.type for v in graph.inputs}


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


def in_single_precision(name: str, array: Array) -> Array:
    """An input of floats in 32 bits; UsageError if it holds finite numbers that those cannot."""
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    if (np.isinf(narrow) & np.isfinite(array)).any():
        raise UsageError(
            f"input {name!r} holds numbers that 32 bits cannot, and the target computes in no more",
            hint="scale the numbers before they enter the model",
        )
    return narrow


class Session:
    """An ONNX model that is ready to run: in ONNX Runtime, silent and as it is written (no rewriting, no integer
    kernels for quantized models), or, if that has neither the model's operators at its opset nor at an older one that
    says the same, in ONNX's reference evaluator.

    once  it will run no more than once: weights are left where they are, in the mapped file if they are external data,
          instead of being copied into the order that makes products of matrices fastest
    """

    def __init__(self, model: Source, once: bool = False) -> None:
        self._backend = _backend(model, once)
        self.in_runtime = not isinstance(self._backend, OnnxReference)
        if not self.in_runtime:
            self.inputs, self.outputs = self._backend.inputs, self._backend.outputs
        else:
            self.inputs = [i.name for i in self._backend.get_inputs()]
            self.outputs = [o.name for o in self._backend.get_outputs()]

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Arrays of the named outputs."""
        try:
            results: list[Array] = self._backend.run(outputs, inputs)
        except Exception as e:  # onnxruntime raises classes of its own without a common base
            raise _refused("run", e) from e
        return results


def _inference_session(model: Source, once: bool) -> Any:  # Any: an InferenceSession, which has no types
    import onnxruntime  # heavy; loaded when numbers are compared

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = os.cpu_count() or 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if once:
        options.add_session_config_entry("session.disable_prepacking", "1")
    source = model if isinstance(model, bytes) else os.fspath(model)
    if isinstance(source, str) and not source.isprintable() and "\udc80" <= max(source) <= "\udcff":
        source = Path(source).read_bytes()  # a path that is not UTF-8, which ONNX Runtime does not take
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _backend(model: Source, once: bool) -> Any:  # Any: an InferenceSession, which has no types, or an OnnxReference
    try:
        return _inference_session(model, once)
    except Exception as e:  # onnxruntime raises classes of its own without a common base
        if is_too_new(model):
            opset = RUNTIME_OPSET
        elif "NOT_IMPLEMENTED" in str(e):
            opset = COMPLETE_OPSET
        else:
            raise _refused("load", e) from e
        other = retold(model, opset)
        if other is not None:
            with suppress(Exception):  # it may lack a kernel for an operator of that opset
                return _inference_session(other, once)
        try:
            return OnnxReference(model)
        except Exception:  # noqa: BLE001  # the evaluator lacks the operator as well
            raise _refused("load", e) from e


def open_session(model: Source) -> Session:
    """The model, loaded; VerificationError if it cannot be."""
    return Session(model)


def run_session(
    session: Session, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
) -> dict[str, Array]:
    """Outputs by name; `inputs` may hold more than the session takes."""
    names = list(outputs) if outputs is not None else session.outputs
    feeds = {name: inputs[name] for name in session.inputs if name in inputs}
    return dict(zip(names, session.run(names, feeds), strict=True))


def _refused(what: str, error: Exception) -> VerificationError:
    return VerificationError(
        f"ONNX Runtime does not {what} the model: {_first_line(error)}",
        hint="compile with --verify off to go without the comparison",
    )


def run_graph(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of a layer graph, exported and executed by ONNX Runtime. Large constants pass through a temporary file
    that it maps, because of those in a message it makes copies."""
    if sum(v.type.nbytes for v in graph.constants) < MAPPED_FROM:
        return run_session(Session(export_bytes(graph), once=True), inputs)
    import tempfile  # for large graphs only

    with tempfile.TemporaryDirectory(prefix="cincel-") as folder:
        path = Path(folder) / "graph.onnx"
        save_model(graph, path, external=True)
        return run_session(Session(path, once=True), inputs)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]

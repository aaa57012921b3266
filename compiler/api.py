"""The roof: load a model, compile it for a target, run what came out."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import passes  # noqa: F401  # registers passes and pipelines
from compiler.bisect import Culprit, bisect
from compiler.compare import Comparison, compare_all
from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.ledger import Ledger
from compiler.onnx_import import Imported, import_model
from compiler.oracle import checked_inputs, input_types, open_session, run_graph, run_session, seeded_inputs
from compiler.pass_base import Step
from compiler.pass_manager import Dump, PassManager
from compiler.report import Report, measure
from compiler.rewrite_check import RewriteChecker
from compiler.target import Artifact, Target, make_target
from compiler.tensor import Array
from targets import find_target

__all__ = ["Compiled", "PassManager", "compile_model", "find_culprit", "load"]
VERIFY = ("off", "final", "each")
Shapes = Mapping[str, Sequence[int]]


def load(source: object, *, inputs: Shapes | None = None, freeze: Mapping[str, Array] | None = None) -> Graph:
    """Read an ONNX model (path, bytes, ModelProto or graphsurgeon graph) into a layer graph.

    inputs  shapes for dynamic inputs, by name
    freeze  inputs that become constants

    Raises OnnxError, ShapeError or UsageError with one sentence on what is wrong.
    """
    return import_model(source, inputs, freeze).graph


class Compiled:
    """The result of a compilation: the artifact on disk, the report, and `run`."""

    def __init__(
        self, artifact: Artifact, report: Report, graph: Graph, folder: tempfile.TemporaryDirectory[str] | None
    ) -> None:
        self.artifact = artifact
        self.report = report
        self.graph = graph
        self._folder = folder  # removes the artifact with this object, if no output path was given

    @property
    def path(self) -> Path:
        return self.artifact.path

    @property
    def ledger(self) -> Ledger:
        return self.report.ledger

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Execute the artifact as it is on disk; arrays by the ONNX model's names, both ways."""
        return self.artifact.run(inputs)


def compile_model(
    source: object,
    target: str = "ane",
    output: str | os.PathLike[str] | None = None,
    *,
    passes: str | Sequence[Step] | None = None,
    skip: Sequence[str] = (),
    inputs: Shapes | None = None,
    freeze: Mapping[str, Array] | None = None,
    verify: str = "final",
    verify_data: Mapping[str, Array] | None = None,
    strict: bool = False,
    seed: int = 0,
    dump: Dump | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Compiled:
    """Compile a model for a target.

    output       where the artifact goes; a temporary folder if None
    passes       a pipeline instead of the target's own, as text or as a sequence
    verify       "off", "final" (the executed artifact against ONNX Runtime) or "each" (every rewrite too)
    verify_data  inputs to compare on, by name, instead of seeded ones
    strict       a pass that breaks its promise ends the compilation
    options      of the target: precision, deployment_target, opset ...

    Raises CompileError of a kind; a measured distance beyond the target's tolerance is in the report, not raised.
    """
    if verify not in VERIFY:
        raise UsageError(f"verify is {verify!r}", hint=f"choose one of {', '.join(VERIFY)}")
    with _no_cyclic_collection():
        chosen = make_target(find_target(target), options)
        manager = PassManager(chosen.pipeline() if passes is None else passes, skip=skip)
        report = Report(target=target, model=_label(source))
        path, folder = _destination(output, source, chosen)
        tell = progress or (lambda _: None)
        with report.stage("import"):
            tell("import")
            imported = import_model(source, inputs, freeze)
        report.before, report.notes = measure(imported.graph), imported.notes
        feeds: dict[str, Array] = {}
        reference: dict[str, Array] = {}
        if verify != "off":
            with report.stage("reference"):
                tell("reference run")
                feeds, reference = reference_run(source, imported, freeze or {}, verify_data, seed)
        checker = RewriteChecker(feeds, reference) if verify == "each" else None
        with report.stage("passes"):
            graph, report.ledger = manager.run(
                imported.graph, checker=checker, strict=strict, debug=verify == "each", dump=dump, progress=tell
            )
        with report.stage("lower"):
            tell("lower")
            graph = chosen.prepare(graph)
            graph.verify()
        report.after = measure(graph)
        with report.stage("emit"):
            tell("emit")
            artifact = chosen.emit(graph, path)
        report.artifact, report.size = artifact.path, artifact.size
        if verify != "off":
            with report.stage("verify"):
                tell("run the artifact")
                report.verification = compare_all(reference, artifact.run(feeds))
            report.tolerance_db = chosen.tolerance_db
        report.warnings = artifact.warnings
        return Compiled(artifact, report, graph, folder)


def reference_run(
    source: object, imported: Imported, freeze: Mapping[str, Array], given: Mapping[str, Array] | None, seed: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs, and what ONNX Runtime makes of them with the original model (frozen inputs included)."""
    types = input_types(imported.graph)
    feeds = checked_inputs(given, types) if given is not None else seeded_inputs(types, seed)
    session = open_session(_for_session(source))
    fixed = {i.name: _as_declared(freeze[i.name], i) for i in session.get_inputs() if i.name in freeze}
    return feeds, run_session(session, {**feeds, **fixed})


def find_culprit(
    source: object,
    manager: PassManager,
    *,
    inputs: Shapes | None = None,
    freeze: Mapping[str, Array] | None = None,
    verify_data: Mapping[str, Array] | None = None,
    seed: int = 0,
    tolerance_db: float = 100.0,
) -> Culprit | None:
    """The first rewrite after which an output is further than `tolerance_db` from ONNX Runtime; None if none is."""
    imported = import_model(source, inputs, freeze)
    feeds, reference = reference_run(source, imported, freeze or {}, verify_data, seed)

    def broken(graph: Graph) -> bool:
        return any(c.psnr_db < tolerance_db for c in compare_all(reference, run_graph(graph, feeds)))

    return bisect(lambda: imported.graph.clone(), manager, broken)


def worst(verification: Sequence[Comparison]) -> Comparison | None:
    """The output furthest from its reference."""
    return min(verification, key=lambda c: c.psnr_db, default=None)


@contextmanager
def _no_cyclic_collection() -> Iterator[None]:
    """Graphs are full of cycles that live as long as the compilation; looking for garbage among them is wasted."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _destination(
    output: str | os.PathLike[str] | None, source: object, target: Target
) -> tuple[Path, tempfile.TemporaryDirectory[str] | None]:
    if output is not None:
        path = Path(output)
        if not path.parent.is_dir():
            raise UsageError(f"the folder {str(path.parent)!r} of the output does not exist", hint="create it first")
        return path, None
    folder = tempfile.TemporaryDirectory(prefix="cincel-")
    return Path(folder.name) / (Path(_label(source)).stem + target.suffix), folder


def _label(source: object) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "model"


def _for_session(source: object) -> bytes | str | os.PathLike[str]:
    """A form of the source that ONNX Runtime opens."""
    if isinstance(source, bytes | str | os.PathLike):
        return source
    if type(source).__module__.partition(".")[0] == "onnx_graphsurgeon":
        import onnx_graphsurgeon  # heavy; its user has it loaded

        source = onnx_graphsurgeon.export_onnx(source)
    serialized: bytes = source.SerializeToString()  # type: ignore[attr-defined]  # read_model accepted it: a ModelProto
    return serialized


def _as_declared(data: Array, info: Any) -> Array:  # Any: onnxruntime's NodeArg
    kind = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}.get(info.type)
    kind = kind or info.type.removeprefix("tensor(").removesuffix(")")
    array = np.asarray(data).astype(kind)
    dims = info.shape
    return array.reshape([1] * len(dims)) if array.ndim == 0 and dims else array

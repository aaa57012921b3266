"""The roof: load a model, compile it for a target, run what came out."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import passes as _passes  # noqa: F401  # registers passes and pipelines
from compiler.bisect import Verdict, bisect, without_losses
from compiler.compare import compare_all
from compiler.errors import CompileError, UsageError, VerificationError
from compiler.graph import Graph
from compiler.job import Dump, Job, Progress, label_of
from compiler.ledger import Ledger
from compiler.onnx_import import import_model
from compiler.onnx_inputs import Shapes
from compiler.oracle import reference_run, run_graph
from compiler.pass_base import Step
from compiler.pass_manager import PassManager
from compiler.probe import output_peaks
from compiler.report import Report
from compiler.rewrite_check import RewriteChecker
from compiler.simulate import simulated
from compiler.target import Artifact, Target, make_target
from compiler.tensor import Array
from targets import find_target

if TYPE_CHECKING:
    from compiler.compression import Compression
    from compiler.spectrum import Asked

__all__ = ["Compiled", "PassManager", "compile_model", "dry_run", "find_culprit", "load"]
VERIFY = ("off", "final", "each")


def load(source: object, *, inputs: Shapes | None = None, freeze: Mapping[str, Array] | None = None) -> Graph:
    """Read an ONNX model (path, bytes, ModelProto or graphsurgeon graph) into a layer graph.

    inputs  shapes for dynamic inputs, by name
    freeze  inputs that become constants

    Raises OnnxError, ShapeError or UsageError with one sentence on what is wrong.
    """
    with _undisturbed():
        return import_model(source, inputs, freeze).graph


class Compiled:
    """The result of a compilation: the artifact on disk, the report, the final graph, and `run`.

    An artifact that was given no path lives in a temporary folder, as long as the artifact object itself.
    """

    def __init__(self, artifact: Artifact, report: Report, graph: Graph, folder: Path | None) -> None:
        self.artifact = artifact
        self.report = report
        self.graph = graph
        if folder is not None:
            import weakref  # for artifacts without a path only

            weakref.finalize(artifact, _remove, folder)

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
    target: str | Target = "ane",
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
    explain: bool = False,
    dump: Dump | None = None,
    progress: Progress | None = None,
    compression: Compression | None = None,
    spectrum: Asked | None = None,
    **options: Any,
) -> Compiled:
    """Compile a model for a target.

    output       where the artifact goes; a temporary folder if None
    passes       a pipeline instead of the target's own, as text or as a sequence
    verify       "off", "final" (the executed artifact against ONNX Runtime) or "each" (every rewrite too)
    verify_data  inputs to compare on, by name, instead of seeded ones
    strict       a pass that breaks its promise ends the compilation
    explain      rank layers by the accuracy that they cost: report.explanation; say where they run: report.placement
    dump         told the graph after the import and after every pass that fired
    compression  what is to be made of the model before; the artifact is compared with what it became
    spectrum     what to look at of the layers' singular values: report.spectrum
    options      of the target, if it is named: precision, deployment_target, opset ...

    Raises CompileError of a kind; a measured distance beyond the target's tolerance is in the report, not raised.
    If the artifact was written and cannot be compared, that is a VerificationError, and the artifact stays.
    """
    if verify not in VERIFY:
        raise UsageError(f"verify is {verify!r}", hint=f"choose one of {', '.join(VERIFY)}")
    chosen = make_target(find_target(target), options) if isinstance(target, str) else target
    chosen.strict = strict
    job = Job(source, chosen, PassManager(chosen.pipeline() if passes is None else passes, skip=skip), progress)
    with _undisturbed(), _destination(output, source, chosen) as (path, folder):
        imported = job.read(inputs, freeze, dump)
        job.look(spectrum, imported.graph, skip)
        if compression is not None:
            imported = imported._replace(graph=job.compress(compression, imported.graph, skip, seed, passes is None))
        job.follow(_settled(chosen, imported.graph, job.manager, own=passes is None))
        plain = imported.graph.clone() if explain and passes is None else None
        given = verify_data if verify_data is not None or verify == "off" else job.examples(imported.graph)
        reference = None if verify == "off" else job.reference(imported, given, seed)
        checker = RewriteChecker(*reference) if reference is not None and verify == "each" else None
        job.prepare(job.rewrite(imported.graph, checker, strict, dump), check=verify != "off")
        artifact = job.emit(path)
        if reference is not None:
            with _verifying(artifact.path if folder is None else None):
                job.compare(artifact, reference)
        if explain:
            job.place(plain, skip)
            job.explain(artifact, reference.inputs if reference is not None else given, seed, verify != "off")
        return Compiled(artifact, job.finish(artifact), job.graph, folder)


def dry_run(
    source: object,
    target: str | Target = "ane",
    *,
    passes: str | Sequence[Step] | None = None,
    skip: Sequence[str] = (),
    inputs: Shapes | None = None,
    freeze: Mapping[str, Array] | None = None,
    strict: bool = False,
    explain: bool = False,
    dump: Dump | None = None,
    progress: Progress | None = None,
    compression: Compression | None = None,
    spectrum: Asked | None = None,
    **options: Any,
) -> Report:
    """What a compilation with these arguments would do, without an artifact: nothing is written or compared. With
    `explain`, which processors are predicted to run the layers, where the target knows."""
    chosen = make_target(find_target(target), options) if isinstance(target, str) else target
    chosen.strict = strict
    job = Job(source, chosen, PassManager(chosen.pipeline() if passes is None else passes, skip=skip), progress)
    with _undisturbed():
        imported = job.read(inputs, freeze, dump)
        job.look(spectrum, imported.graph, skip)
        if compression is not None:
            imported = imported._replace(graph=job.compress(compression, imported.graph, skip, 0, passes is None))
        job.follow(_settled(chosen, imported.graph, job.manager, own=passes is None))
        plain = imported.graph.clone() if explain and passes is None else None
        job.prepare(job.rewrite(imported.graph, None, strict, dump), check=False)
        if explain:
            job.place(plain, skip)
            if job.report.placement is None:
                untold = f"nothing is known of where layers run on {chosen.name}; what they cost takes an artifact"
                job.report.notes = [*job.report.notes, untold]
    return job.finish(None)


def find_culprit(
    source: object,
    manager: PassManager,
    *,
    target: Target | None = None,
    own: bool = True,
    inputs: Shapes | None = None,
    freeze: Mapping[str, Array] | None = None,
    verify_data: Mapping[str, Array] | None = None,
    seed: int = 0,
    tolerance_db: float = 100.0,
) -> Verdict:
    """The first rewrite after which an output is further than `tolerance_db` from ONNX Runtime, if one is. Passes that
    are to lose something do not run, but for those of a model that keeps its scales.

    target  looks at the model first; a quantized one that keeps its scales is rounded as they say, and as far from ONNX
            Runtime as the target allows, because sums between two steps round to either
    own     whether the manager has the target's own passes, and not others
    """
    with _undisturbed():
        imported = import_model(source, inputs, freeze)
        keeps = False
        if target is not None:
            manager = _settled(target, imported.graph, manager, own)
            verify_data = target.examples(imported.graph) if verify_data is None else verify_data
            keeps = target.keeps_scales
            tolerance_db = min(tolerance_db, target.tolerance_db) if keeps else tolerance_db
        manager, left_out = (manager, ()) if keeps else without_losses(manager)
        feeds, reference = reference_run(source, imported.graph, imported.frozen, verify_data, seed)
        peaks = output_peaks(imported.graph)

        def broken(graph: Graph) -> bool:
            found = run_graph(simulated(graph).graph if keeps else graph, feeds)
            return any(c.psnr_db < min(tolerance_db, c.limit_db) for c in compare_all(reference, found, peaks))

        return Verdict(bisect(imported.graph.clone, manager, broken), left_out)


def _settled(target: Target, graph: Graph, manager: PassManager, own: bool) -> PassManager:
    """The passes for an imported model, at which the target looks first: those of the manager, unless they are the
    target's `own` and it chooses others now."""
    changed = target.settle(graph, absorbs=own or "absorb-qdq" in manager.names)
    return PassManager(target.pipeline(), skip=tuple(manager.skip)) if own and changed else manager


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without warnings of arithmetic on a model's own numbers, and without cyclic garbage collection: graphs are full
    of cycles that live as long as the compilation."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _destination(
    output: str | os.PathLike[str] | None, source: object, target: Target
) -> Iterator[tuple[Path, Path | None]]:
    """The path of the artifact, and the temporary folder around it if none was given, removed if anything fails."""
    if output is not None:
        yield _checked(Path(output), source, target), None
        return
    import tempfile  # for artifacts without a path only

    folder = Path(tempfile.mkdtemp(prefix="cincel-"))
    try:
        yield folder / (Path(label_of(source)).stem + target.suffix), folder
    except BaseException:
        _remove(folder)
        raise


@contextmanager
def _verifying(written: Path | None) -> Iterator[None]:
    """Makes a VerificationError that names the file that stays, if any, of what keeps it from being compared."""
    try:
        yield
    except Exception as e:  # a defect of an evaluator or of a runtime leaves the same doubtful file
        what = "the artifact" if written is None else f"wrote {str(written)!r}, but it"
        hint = "--verify off goes without the comparison; --debug shows where it failed"
        cause = e if isinstance(e, CompileError) else CompileError(f"{type(e).__name__}: {e}", hint=hint)
        message = f"{what} could not be verified: {cause.message}"
        raise VerificationError(message, where=cause.where, hint=cause.hint) from e


def _checked(path: Path, source: object, target: Target) -> Path:
    if not path.parent.is_dir():
        raise UsageError(f"the folder {str(path.parent)!r} of the output does not exist", hint="create it first")
    if not target.suffix.endswith(".onnx") and isinstance(source, str | os.PathLike) and _is_same(path, Path(source)):
        raise UsageError(f"the output {str(path)!r} is the model itself", hint="give another name with -o")
    return path


def _is_same(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except (OSError, ValueError):  # one is missing, or no name of a file
        return False


def _remove(folder: Path) -> None:
    import shutil  # for artifacts without a path only

    shutil.rmtree(folder, ignore_errors=True)

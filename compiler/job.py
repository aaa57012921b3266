"""One compilation, stage by stage: what every way to compile, and to say what would be compiled, is made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.compare import compare_all
from compiler.exact import Exactly
from compiler.graph import Graph
from compiler.ledger import Ledger
from compiler.onnx_import import Imported, import_model
from compiler.onnx_inputs import Shapes
from compiler.oracle import Reference, reference_of, reference_run
from compiler.pass_base import PIPELINES, Fixpoint
from compiler.pass_manager import PassManager
from compiler.probe import output_peaks
from compiler.report import Report, approximations, inexact_references, measure
from compiler.rewrite_check import RewriteChecker
from compiler.seeds import inputs_for
from compiler.target import Artifact, Target
from compiler.tensor import Array

if TYPE_CHECKING:
    from compiler.compression import Compressed, Compression
    from compiler.spectrum import Asked

GIVEN_SCALES = "the scales came with the model, whose own results are rounded so; a range may stand for a ReLU or clip"
EXACT_PRECISIONS = (None, "fp32")
STAGES = 5  # steps besides the passes: import, reference, lower, emit, run
Dump = Callable[[int, str, Graph], None]  # told a number, the name of a stage, and the graph after it
Progress = Callable[[str, int], None]  # told the name of a step, and how many steps there are about


class Job:
    """One compilation, stage by stage; fills in the report."""

    def __init__(self, source: object, target: Target, manager: PassManager, progress: Progress | None) -> None:
        self.source = source
        self.target = target
        self.manager = manager
        self.report = Report(target.name, label_of(source))
        self.report.precision = getattr(target, "precision", None)
        self.graph = Graph()
        self._compressed: Ledger | None = None
        self._made: Compressed | None = None
        self._example: Mapping[str, Array] | None = None
        self._model: Callable[[], Graph] = Graph  # what the artifact is to compute, before any pass
        self._progress = progress
        self._total = STAGES + sum(len(s.passes) if isinstance(s, Fixpoint) else 1 for s in manager.steps)

    def follow(self, manager: PassManager) -> None:
        """Go on with other passes, which the target chose for the model."""
        self.manager = manager
        self.report.precision = getattr(self.target, "precision", None)

    def tell(self, step: str) -> None:
        if self._progress is not None:
            self._progress(step, self._total)

    def read(self, inputs: Shapes | None, freeze: Mapping[str, Array] | None, dump: Dump | None) -> Imported:
        self.tell("import")
        with self.report.stage("import"):
            imported = import_model(self.source, inputs, freeze)
        self.report.before, self.report.notes = measure(imported.graph), imported.notes
        self._model = lambda: import_model(self.source, inputs, freeze).graph
        if dump is not None:
            dump(0, "import", imported.graph)
        return imported

    def compress(self, asked: Compression, graph: Graph, skip: Sequence[str], seed: int, own: bool) -> Graph:
        """The compressed graph, for which what follows is compiled; `own`: by the target's own passes, which store
        rounded weights as they are."""
        from compiler.compression import Compressed  # with all that searches, for this alone
        from passes.compress import Compress

        def tell(step: str) -> None:
            self._total += 1
            self.tell(step)

        with self.report.stage("compress"):
            search = asked.search(graph, self.target, seed, tell)
            manager = PassManager((*PIPELINES["default"], Compress(search=search)), skip=skip)
            graph, self._compressed = manager.run(graph)
            self._example = None if search.data is None else search.data.judge.example
            self._model = graph.clone().clone
            if search.outcome is not None:
                self._made = self.report.compression = made = Compressed(search, self.target, graph)
                if own and made.storages:
                    self.target.keep(made.storages)
                    self.follow(PassManager(self.target.pipeline(), skip=tuple(skip)))
                asked.save(search, self.report.model)
        return graph

    def look(self, asked: Asked | None, graph: Graph, skip: Sequence[str]) -> None:
        """The singular values of layers, as compression would find them, if asked for; the graph stays as it is."""
        if asked is None:
            return
        from compiler.spectrum import look  # with all that it looks at, for this alone

        self.tell("spectrum")
        with self.report.stage("spectrum"):
            asked.expect_sound()
            plain, _ = PassManager(PIPELINES["default"], skip=skip).run(graph.clone())
            found = self.report.spectrum = look(plain, self.target, asked)
            if asked.file is not None:
                found.save(self.report.model, Path(asked.file))

    def examples(self, graph: Graph) -> Mapping[str, Array] | None:
        """Inputs to compare on: of the target's data, or of those that the model was compressed for; None if there are
        none."""
        found = self.target.examples(graph)
        return self._example if found is None else found

    def reference(self, imported: Imported, given: Mapping[str, Array] | None, seed: int) -> Reference:
        """What ONNX Runtime makes of the model, or of the graph that it was compressed to."""
        self.tell("reference run")
        with self.report.stage("reference"):
            if self._compressed is not None:
                return reference_of(imported.graph, given, seed)
            return reference_run(self.source, imported.graph, imported.frozen, given, seed)

    def rewrite(self, graph: Graph, checker: RewriteChecker | None, strict: bool, dump: Dump | None) -> Graph:
        with self.report.stage("passes"):
            rewritten, self.report.ledger = self.manager.run(
                graph,
                checker=checker,
                strict=strict,
                debug=checker is not None,
                dump=None if dump is None else lambda number, p, g: dump(number, p.pass_name(), g),
                progress=self.tell,
            )
        if self._compressed is not None:
            self.report.ledger = self._compressed.followed_by(self.report.ledger)
        return rewritten

    def prepare(self, graph: Graph, check: bool) -> None:
        """The graph that is emitted."""
        self.tell("lower")
        with self.report.stage("lower"):
            self.graph = self.target.prepare(graph)
            if check:
                self.graph.verify()
        self.report.after = measure(self.graph)
        if self._made is not None:
            self._made.see(self.graph)

    def emit(self, path: Path) -> Artifact:
        self.tell("emit")
        with self.report.stage("emit"):
            artifact = self.target.emit(self.graph, path)
        self.report.artifact, self.report.size = artifact.path, artifact.size
        self.report.emitted, self.report.details = artifact.transposes, artifact.details
        return artifact

    def compare(self, artifact: Artifact, reference: Reference) -> None:
        """How far the executed artifact is from ONNX Runtime, and the layers at fault if that is too far. Where it was
        to be exact but for rounding in 32 bits, the model in float64 says which of the two is wrong."""
        report = self.report
        self.tell("run the artifact")
        report.tolerance_db = self.target.tolerance_db
        peaks = output_peaks(self.graph)
        exactly = Exactly(self._model, reference, peaks)
        is_exact = report.precision in EXACT_PRECISIONS and not self.target.keeps_scales

        def good() -> bool:
            found = artifact.run(reference.inputs)
            report.verification = compare_all(reference.outputs, found, peaks)
            if is_exact:
                report.verification = exactly.judge(report.verification, found, report.tolerance_db)
            return report.passed

        with report.stage("verify"):
            if not good():
                measured = report.verification
                if artifact.refine(good):
                    report.size = artifact.size
                else:
                    report.verification = measured
        if not report.passed:
            self.tell("find the losses")
            with report.stage("losses"):
                report.losses = artifact.losses(self.graph, reference.inputs)

    def finish(self, artifact: Artifact | None) -> Report:
        """The report, with what there is to know of the artifact if there is one."""
        self.report.warnings = approximations(self.report.ledger)
        self.report.notes = [*self.report.notes, *inexact_references(self.report)]
        if artifact is not None:
            self.report.warnings = [*self.report.warnings, *artifact.warnings]
            self.report.notes = [*self.report.notes, *artifact.notes]
        return self.report

    def place(self, plain: Graph | None, skip: Sequence[str]) -> None:
        """Which processors are predicted to run the layers: of the rewritten graph, and of the imported one after those
        of the target's passes that suit any engine."""
        self.tell("placement")
        with self.report.stage("placement"):
            steps = self.target.unauthored()
            if plain is not None and steps is not None:
                left_out = PassManager(steps).names & set(skip)
                plain, _ = PassManager(steps, skip=tuple(left_out)).run(plain)
            self.report.placement = self.target.placement(self.graph, plain if steps is not None else None)

    def explain(self, artifact: Artifact, given: Mapping[str, Array] | None, seed: int, runs: bool) -> None:
        """Which layers cost accuracy: by what rounding them to integers does, or else by what the artifact shows where
        it may run."""
        from compiler.calibrate.trial import Trial  # with all that measures, for this alone
        from compiler.doctor.examine import examine

        self.tell("explain")
        with self.report.stage("explain"):
            feeds = given if given is not None else inputs_for(self.graph, seed)
            found = examine(self.graph, self.target.trial(self.graph) or Trial([feeds]), self.target.floats())
            if not found.layers and not runs:
                found = found._replace(notes=[*found.notes, "nothing was run: --verify off"])
            elif not found.layers:
                self.report.losses = self.report.losses or artifact.losses(self.graph, feeds)
                known = "what loses accuracy is named above" if self.report.losses else "the artifact shows no losses"
                found = found._replace(notes=[*found.notes, known])
            elif self.target.keeps_scales:
                found = found._replace(notes=[*found.notes, GIVEN_SCALES])
        self.report.explanation = found


def label_of(source: object) -> str:
    """The path of a model, or a word for one that is in memory."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "model"

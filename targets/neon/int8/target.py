"""Integers for the NEON target: by the way of the TensorFlow Lite target, whose operators become calls."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.graph import Graph
from compiler.pass_base import Step
from compiler.target import refuse
from targets.neon.blocking import Core
from targets.neon.emit import Form, write_library
from targets.neon.int8.artifact import IntegerArtifact
from targets.neon.int8.emit import lowered, objections
from targets.tflite.artifact import TfLiteArtifact
from targets.tflite.integer import NoReferenceError
from targets.tflite.reader import read
from targets.tflite.target import TfLiteTarget

if TYPE_CHECKING:
    from passes._search import Budget

HINT = "--target nnapi writes a file of such a model"


class IntegerTarget(TfLiteTarget):
    """A library whose results are, to the last bit, those of the integer reference for the .tflite file that it is made
    from: that of `--target nnapi --io-layout keep`, but that no layer is replaced for the sake of a device. Operators
    that stay in floats are computed in floats.

    isa, run_on, form, cut_for   as of the NEON target
    """

    name = "neon"
    suffix = ""

    def __init__(
        self, isa: str, run_on: str, form: Form, cut_for: Core, **options: Any
    ) -> None:  # Any: those of TensorFlow Lite
        super().__init__(io_layout="keep", **options)
        self.isa, self.run_on, self.form, self.core = isa, run_on, form, cut_for

    def substitutions(self, early: bool = False) -> tuple[Step, ...]:
        """No device's gaps have to be filled."""
        return ()

    def _within_budget(self, budget: Budget, graph: Graph, path: Path) -> TfLiteArtifact:
        from targets.tflite.budgeted import within_budget  # with all that checks files: for budgets only

        return within_budget(budget, graph, self.name, self.strict, lambda: self._written(graph, path), is_placed=False)

    def emit(self, graph: Graph, path: Path) -> IntegerArtifact:  # type: ignore[override]  # a folder, not a file
        with tempfile.TemporaryDirectory() as name:
            written = super().emit(graph, Path(name) / "model.tflite")
            file = read(written.path)
            refuse(self.name, objections(file), HINT)
            inputs, outputs = [p.name for p in written.inputs], [p.name for p in written.outputs]
            try:
                program = lowered(file, self.isa, inputs, outputs, self.core.is_in_order, self.form.threads)
            except NoReferenceError as e:
                refuse(self.name, [str(e)], HINT)
                raise
            told = write_library(program, graph.name, path, self.form)
            tensors = program.port_tensors
            artifact = IntegerArtifact(
                path,
                [*zip(written.inputs, tensors[0], strict=True)],
                [*zip(written.outputs, tensors[1], strict=True)],
                written.warnings,
                self.run_on,
                told,
            )
            artifact.macs = sum(n.macs for n in graph.nodes)
            return artifact

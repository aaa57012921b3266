"""The Metal target: options, preparation, emission."""

from __future__ import annotations

from pathlib import Path

from compiler.graph import Graph
from compiler.pass_base import PIPELINES, Step
from compiler.target import Target, expect_choice, refuse
from passes.choose_layout import ChooseLayout
from passes.decompose import Decompose
from passes.merge_reshapes import MergeReshapes
from passes.merge_siblings import MergeSiblings
from passes.remove_identity import RemoveIdentity
from targets.metal.artifact import MetalArtifact
from targets.metal.emit import Form, lowered, write_model
from targets.metal.families import DEFAULT, family_of
from targets.metal.limits import size_objections
from targets.metal.lower import TABLE
from targets.metal.siblings import is_read_in_columns
from targets.metal.singles import singles
from targets.source.halves import in_halves
from targets.source.needs import port_objections

PRECISIONS = ("fp16", "fp32")
TOLERANCE_DB = {"fp16": 50.0, "fp32": 90.0}
CHECKS = ("auto", "on", "off")
MANY = 4_000_000_000  # multiply-adds from which on accesses are not checked unless that is asked for: it takes minutes


class MetalTarget(Target):
    """A folder with the Metal source of a model's kernels, the plan of their dispatches, and Swift and Objective-C++ to
    run it.

    precision  fp16 (default): tensors in 16 bits, sums in 32; or fp32
    gpu        the family of GPUs, or a chip that has one, for which launches are cut: apple7 (default), M3
    checks     whether accesses to memory are checked when the source is run to compare it: auto
               (default: not in large models), on or off
    symbol     what the Swift class is named after (default: the name of the folder)
    """

    name = "metal"
    suffix = ""
    accepts = frozenset(("precision", "gpu", "checks", "symbol"))

    def __init__(
        self, precision: str = "fp16", gpu: str = DEFAULT, checks: str = "auto", symbol: str | None = None
    ) -> None:
        expect_choice(self.name, "precision", precision, PRECISIONS)
        expect_choice(self.name, "checks", checks, CHECKS)
        self.precision, self.checks = precision, checks
        self._given: dict[Graph, Graph] = {}  # a prepared graph -> the one whose inputs and outputs a caller knows
        self.form = Form(symbol, precision, gpu)
        family_of(gpu)

    def pipeline(self) -> tuple[Step, ...]:
        return (
            *PIPELINES["default"],
            Decompose(keeps=TABLE.accepts),
            *(in_halves(TABLE.accepts) if self.precision == "fp16" else ()),
            MergeReshapes(),
            RemoveIdentity(),
            MergeSiblings(takes=is_read_in_columns),
            ChooseLayout(),
        )

    def prepare(self, graph: Graph) -> Graph:
        narrow = singles(graph)
        objections = [*TABLE.objections(narrow), *port_objections(narrow), *size_objections(narrow)]
        refuse(self.name, objections, "--target onnx or nnapi may run it")
        self._given = {narrow: graph}
        return narrow

    def emit(self, graph: Graph, path: Path) -> MetalArtifact:
        p = lowered(graph, self.form)
        written = write_model(p, graph.name, path, self.form)
        checks = sum(node.macs for node in graph.nodes) < MANY if self.checks == "auto" else self.checks == "on"
        return MetalArtifact(path, self._given.get(graph, graph), written, checks=checks)

    @property
    def tolerance_db(self) -> float:
        return TOLERANCE_DB[self.precision]


TARGET = MetalTarget

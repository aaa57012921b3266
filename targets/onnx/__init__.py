"""Target `onnx`: the rewritten graph as a clean ONNX file that any runtime opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from compiler.graph import Graph
from compiler.onnx_export import checked_opset, save_model
from compiler.oracle import checked_inputs, input_types, open_session, run_session
from compiler.pass_base import PIPELINES, Step
from compiler.target import Artifact, Target
from compiler.tensor import Array


class OnnxArtifact(Artifact):
    """A saved ONNX model, executed by ONNX Runtime."""

    def __init__(self, files: Sequence[Path], graph: Graph) -> None:
        self.path = files[0]
        self.warnings: list[str] = []
        self._files = files  # the model, then its data
        self._types = input_types(graph)

    @property
    def size(self) -> int:
        return sum(f.stat().st_size for f in self._files)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return run_session(open_session(self.path), checked_inputs(inputs, self._types))


class OnnxTarget(Target):
    """A clean ONNX file.

    opset     13 to 28 (default: the newest that ONNX Runtime runs in full)
    external  weights in a file beside the model (default: only above 2 GiB)
    """

    name = "onnx"
    suffix = ".onnx"
    accepts = frozenset(("opset", "external"))

    def __init__(self, opset: int | None = None, external: bool | None = None) -> None:
        self.opset = opset if opset is None else checked_opset(opset)
        self.external = external

    def pipeline(self) -> tuple[Step, ...]:
        return PIPELINES["default"]

    def prepare(self, graph: Graph) -> Graph:
        return graph

    def emit(self, graph: Graph, path: Path) -> OnnxArtifact:
        return OnnxArtifact(save_model(graph, path, self.opset, self.external), graph)

    @property
    def tolerance_db(self) -> float:
        return 100.0


TARGET = OnnxTarget

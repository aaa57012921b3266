"""A model as several packages in a folder, none with more weights than was asked for, and how to run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.graph import Graph, Value
from compiler.pipeline import Part, Pipeline, link, new_pipeline, read_pipeline, write_manifest
from compiler.pipeline import Port as PackagePort
from compiler.split import Chunk
from compiler.tensor import Array
from targets.coreml.artifact import CoreMLArtifact, Port
from targets.coreml.blob import HEADER_BYTES
from targets.coreml.lower import TABLE, Lowering
from targets.coreml.package import weight_bytes

if TYPE_CHECKING:
    from collections.abc import Hashable

Package = Callable[[Graph, Path], CoreMLArtifact]
Typed = Callable[[Port], str]

PRACTICAL_BYTES = 10**9
"""Of a package on the Neural Engine: 1 GB by the documentation of Core ML Tools, 2 GB by Apple's guidance for Core AI."""


def stored_by_layer(lowering: Lowering, graph: Graph) -> list[dict[Hashable, int]]:
    """The constants that each layer puts into the weight file, with their bytes there: lowers the whole graph, whose
    inputs are bound already. The header of the file counts as a constant of all."""
    found: list[dict[Hashable, int]] = []
    for node in graph.nodes:
        start = len(lowering.program)
        TABLE.lower_layer(lowering, node)
        found.append({"header": HEADER_BYTES, **lowering.program.stored(start)})
    return found


def folder_of(path: Path) -> Path:
    """Where the packages go that are made instead of one at `path`."""
    return path.with_suffix("") if path.suffix == ".mlpackage" else path


def write_chunks(path: Path, graph: Graph, chunks: Sequence[Chunk], package: Package, typed: Typed) -> CoreMLPipeline:
    """Write every chunk as a package, and the manifest beside them. The folder appears complete or not at all.

    package  writes a graph as a package
    typed    the element type of an input or output in a package
    """
    folder = folder_of(path)
    names = [f"{folder.name}_{k}.mlpackage" for k in range(len(chunks))]
    with new_pipeline(folder) as new:
        artifacts = [package(chunk.graph, new / name) for chunk, name in zip(chunks, names, strict=True)]
        parts = [
            Part(name, _ports(a.inputs, typed), _ports(a.outputs, typed), weight_bytes(new / name), chunk.crossing)
            for chunk, name, a in zip(chunks, names, artifacts, strict=True)
        ]
        pipeline = link(parts, [v.name for v in graph.inputs], graph.output_names)
        write_manifest(new, pipeline)
    for artifact, name in zip(artifacts, names, strict=True):
        artifact.path = folder / name
    return CoreMLPipeline(folder, graph, pipeline, artifacts, [chunk.originals for chunk in chunks])


def _ports(ports: Sequence[Port], typed: Typed) -> dict[str, PackagePort]:
    return {port.name: PackagePort(port.feature, port.shape, typed(port)) for port in ports if port.feature}


class CoreMLPipeline(CoreMLArtifact):
    """Packages in a folder, run one after another as the manifest there says."""

    def __init__(
        self,
        folder: Path,
        graph: Graph,
        pipeline: Pipeline,
        chunks: Sequence[CoreMLArtifact],
        originals: Sequence[Mapping[Value, Value]],
    ) -> None:
        inside = {port.name: port for chunk in reversed(chunks) for port in chunk.inputs if port.feature}
        inputs = [_outer(v.name, v, inside.get(v.name)) for v in graph.inputs]
        inside = {port.name: port for chunk in chunks for port in chunk.outputs if port.feature}
        pairs = zip(graph.output_names, graph.outputs, strict=True)
        outputs = [_outer(name, v, inside.get(name)) for name, v in pairs]
        super().__init__(folder, inputs, outputs, _together(chunks), {})
        self.notes = [_told(pipeline)]
        self._chunks, self._originals = chunks, originals

    def predict(self, features: Mapping[str, Array]) -> dict[str, Array]:
        return self._run(features, lambda k, given: self._chunks[k].predict(given))

    def evaluate(self, features: Mapping[str, Array], measured: dict[Value, Array] | None = None) -> dict[str, Array]:
        def execute(k: int, given: Mapping[str, Array]) -> dict[str, Array]:
            inside: dict[Value, Array] = {}
            results = self._chunks[k].evaluate(given, None if measured is None else inside)
            if measured is not None:
                measured.update((self._originals[k][v], a) for v, a in inside.items() if v in self._originals[k])
            return results

        return self._run(features, execute)

    def _run(
        self, features: Mapping[str, Array], execute: Callable[[int, Mapping[str, Array]], dict[str, Array]]
    ) -> dict[str, Array]:
        pipeline = read_pipeline(self.path)
        for chunk, stage in zip(self._chunks, pipeline.stages, strict=True):
            chunk.path = self.path / stage.package
        results = pipeline.run(features, execute)
        self.warnings = list(dict.fromkeys([*self.known, *_together(self._chunks)]))
        return results


def _outer(name: str, v: Value, inner: Port | None) -> Port:
    """An input or output of the whole, under its own name; left out where every chunk does without it."""
    return Port(name, "" if inner is None else name, v.type, None if inner is None else inner.image)


def _together(chunks: Sequence[CoreMLArtifact]) -> list[str]:
    return list(dict.fromkeys(warning for chunk in chunks for warning in chunk.warnings))


def _told(pipeline: Pipeline) -> str:
    """What became of --split, in a sentence."""
    weights = ", ".join(f"{stage.weight_bytes:,}" for stage in pipeline.stages)
    crossing = ", ".join(f"{stage.crossing_bytes:,}" for stage in pipeline.stages[:-1])
    return f"split into {len(pipeline.stages)} packages of {weights} bytes of weights; {crossing} bytes cross the cuts"


def size_warning(path: Path) -> list[str]:
    """What to say of a package that is larger than the Neural Engine takes in practice."""
    size = weight_bytes(path)
    if size <= PRACTICAL_BYTES:
        return []
    return [
        f"the package holds {size / 1e9:.2f} GB of weights; in practice the Neural Engine takes packages up to 1 GB"
        " (documentation of Core ML Tools) or 2 GB (Apple's guidance for Core AI): --split 1GB writes several"
    ]

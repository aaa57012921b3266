"""A model as several packages in a folder, and how to run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compiler.graph import Graph, Value
from compiler.pipeline import Port as PackagePort
from compiler.split import Chunk, Stored
from compiler.tensor import Array
from targets.apple import chunks as apple
from targets.apple.chunks import Contents, Written
from targets.coreml.artifact import CoreMLArtifact, Port
from targets.coreml.blob import HEADER_BYTES
from targets.coreml.lower import TABLE, Lowering
from targets.coreml.package import weight_bytes

Package = Callable[[Graph, Path], CoreMLArtifact]
Typed = Callable[[Port], str]

PRACTICAL_BYTES = 10**9  # of a package: documentation of Core ML Tools; Apple's guidance for Core AI says 2 GB
TAKEN = "in practice the Neural Engine takes up to 1 GB (Core ML Tools' documentation), 2 by Apple's for Core AI"


def stored_by_layer(lowering: Lowering, graph: Graph) -> list[Stored]:
    """The constants that each layer puts into the weight file, with their bytes there: lowers the whole graph, whose
    inputs are bound already. The header of the file counts as a constant of all."""
    found: list[Stored] = []
    for node in graph.nodes:
        start = len(lowering.program)
        TABLE.lower_layer(lowering, node)
        found.append({"header": HEADER_BYTES, **lowering.program.stored(start)})
    return found


def write_chunks(path: Path, graph: Graph, chunks: Sequence[Chunk], package: Package, typed: Typed) -> CoreMLPipeline:
    """Write every chunk as a package, and the manifest beside them.

    package  writes a graph as a package
    typed    the element type of an input or output in a package
    """

    def contents(a: CoreMLArtifact, _: Chunk) -> Contents:
        return Contents(_ports(a.inputs, typed), _ports(a.outputs, typed), weight_bytes(a.path))

    return CoreMLPipeline(graph, apple.write_chunks(path, ".mlpackage", graph, chunks, package, contents))


def _ports(ports: Sequence[Port], typed: Typed) -> dict[str, PackagePort]:
    return {port.name: PackagePort(port.feature, port.shape, typed(port)) for port in ports if port.feature}


class CoreMLPipeline(CoreMLArtifact):
    """Packages in a folder, run one after another as the manifest there says."""

    def __init__(self, graph: Graph, written: Written[CoreMLArtifact]) -> None:
        inside = {port.name: port for chunk in reversed(written.chunks) for port in chunk.inputs if port.feature}
        inputs = [_outer(v.name, v, inside.get(v.name)) for v in graph.inputs]
        inside = {port.name: port for chunk in written.chunks for port in chunk.outputs if port.feature}
        pairs = zip(graph.output_names, graph.outputs, strict=True)
        outputs = [_outer(name, v, inside.get(name)) for name, v in pairs]
        savings = [saving for chunk in written.chunks for saving in chunk.savings]
        super().__init__(written.folder, inputs, outputs, written.warnings(), {}, savings)
        self.notes = [written.told()]
        self._written = written

    def predict(self, features: Mapping[str, Array]) -> dict[str, Array]:
        return self._run(features, lambda k, given: self._written.chunks[k].predict(given))

    def evaluate(self, features: Mapping[str, Array], measured: dict[Value, Array] | None = None) -> dict[str, Array]:
        def execute(k: int, given: Mapping[str, Array]) -> dict[str, Array]:
            inside: dict[Value, Array] = {}
            results = self._written.chunks[k].evaluate(given, None if measured is None else inside)
            if measured is not None:
                whole = self._written.originals[k]
                measured.update((whole[v], a) for v, a in inside.items() if v in whole)
            return results

        return self._run(features, execute)

    def _run(
        self, features: Mapping[str, Array], execute: Callable[[int, Mapping[str, Array]], dict[str, Array]]
    ) -> dict[str, Array]:
        results = self._written.run(self.path, features, execute)
        self.warnings = list(dict.fromkeys([*self.known, *self._written.warnings()]))
        return results


def _outer(name: str, v: Value, inner: Port | None) -> Port:
    """An input or output of the whole, under its own name; left out where every chunk does without it."""
    return Port(name, "" if inner is None else name, v.type, None if inner is None else inner.image)


def size_warning(path: Path) -> list[str]:
    """What to say of a package that is larger than the Neural Engine takes in practice."""
    return apple.size_warning(weight_bytes(path), PRACTICAL_BYTES, TAKEN)

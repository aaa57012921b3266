"""A model as several assets in a folder, and how to run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compiler.graph import Graph
from compiler.pipeline import Port as AssetPort
from compiler.split import Chunk, Stored
from compiler.tensor import Array
from targets.apple import chunks as apple
from targets.apple.chunks import Contents, Written
from targets.coreai.artifact import CoreAIArtifact, Port
from targets.coreai.lower import TABLE, Lowering
from targets.coreai.package import BYTECODE

PRACTICAL_BYTES = 2 * 10**9  # of an asset: Apple's guidance for Core AI
TAKEN = "in practice the Neural Engine takes up to 2 GB (Apple's guidance for Core AI)"


def stored_by_layer(lowering: Lowering, graph: Graph) -> list[Stored]:
    """The constants that each layer reads, with their bytes: lowers the whole graph, whose inputs are bound already."""
    found: list[Stored] = []
    for node in graph.nodes:
        lowering.program.constants = {}
        TABLE.lower_layer(lowering, node)
        found.append(lowering.program.constants)
    return found


def write_chunks(
    path: Path, graph: Graph, chunks: Sequence[Chunk], asset: Callable[[Graph, Path], CoreAIArtifact]
) -> CoreAIPipeline:
    """Write every chunk as an asset, and the manifest beside them. `asset` writes a graph as one."""

    def contents(a: CoreAIArtifact, chunk: Chunk) -> Contents:
        return Contents(_ports(a.inputs), _ports(a.outputs), chunk.stored)

    return CoreAIPipeline(graph, apple.write_chunks(path, ".aimodel", graph, chunks, asset, contents))


def _ports(ports: Sequence[Port]) -> dict[str, AssetPort]:
    return {port.name: AssetPort(port.name, port.shape, port.held) for port in ports if port.held}


class CoreAIPipeline(CoreAIArtifact):
    """Assets in a folder, run one after another as the manifest there says."""

    def __init__(self, graph: Graph, written: Written[CoreAIArtifact]) -> None:
        inside = {port.name: port.held for chunk in reversed(written.chunks) for port in chunk.inputs if port.held}
        inputs = [Port(v.name, inside.get(v.name, ""), v.type) for v in graph.inputs]
        inside = {port.name: port.held for chunk in written.chunks for port in chunk.outputs if port.held}
        pairs = zip(graph.output_names, graph.outputs, strict=True)
        outputs = [Port(name, inside.get(name, ""), v.type) for name, v in pairs]
        first = written.chunks[0]
        kernels = [name for chunk in written.chunks for name in chunk.kernels]
        savings = [saving for chunk in written.chunks for saving in chunk.savings]
        super().__init__(written.folder, inputs, outputs, written.warnings(), kernels, first.showing, savings)
        self.notes = list(dict.fromkeys([written.told(), *(note for chunk in written.chunks for note in chunk.notes)]))
        self._written = written

    def execute(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return self._written.run(self.path, feeds, lambda k, given: self._written.chunks[k].execute(given))


def size_warning(path: Path) -> list[str]:
    """What to say of an asset that is larger than the Neural Engine takes in practice."""
    return apple.size_warning((path / BYTECODE).stat().st_size, PRACTICAL_BYTES, TAKEN)

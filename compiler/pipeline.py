"""Several packages that are one model: the manifest `pipeline.json` in their folder, and running them from it.

The manifest lists the chunks in the order in which they run, and of every input of a chunk what feeds it: an input of
the model, or an output of an earlier chunk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from compiler.errors import EmitError
from compiler.new_folder import new_folder

if TYPE_CHECKING:
    from compiler.tensor import Array

MANIFEST = "pipeline.json"
FORMAT = "cincel-pipeline"
VERSION = 1


class Port(NamedTuple):
    """A tensor as a package takes or gives it: its name there, and what it is."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Source(NamedTuple):
    """Where a tensor comes from: an output of a chunk, by number, or an input of the model (chunk None)."""

    chunk: int | None
    name: str

    def as_json(self) -> dict[str, Any]:
        return {"model": self.name} if self.chunk is None else {"chunk": self.chunk, "output": self.name}


class Stage(NamedTuple):
    """A chunk: its package, its inputs with their sources, its outputs, the bytes of its weights, and the bytes of what
    crosses the cut behind it."""

    package: str
    inputs: list[tuple[Port, Source]]
    outputs: list[Port]
    weight_bytes: int
    crossing_bytes: int


class Pipeline(NamedTuple):
    """Chunks in order, and the inputs and outputs of the model that they are."""

    inputs: list[Port]
    outputs: list[tuple[Port, Source]]
    stages: list[Stage]

    def run(
        self, inputs: Mapping[str, Array], execute: Callable[[int, Mapping[str, Array]], Mapping[str, Array]]
    ) -> dict[str, Array]:
        """The outputs of the model. `execute` runs the chunk of a number; arrays by name, both ways. A tensor is
        forgotten once no later chunk reads it."""
        held = {Source(None, port.name): inputs[port.name] for port in self.inputs}
        last = {source: k for k, stage in enumerate(self.stages) for _, source in stage.inputs}
        last.update((source, len(self.stages)) for _, source in self.outputs)
        for k, stage in enumerate(self.stages):
            results = execute(k, {port.name: held[source] for port, source in stage.inputs})
            held.update((Source(k, port.name), results[port.name]) for port in stage.outputs)
            held = {source: array for source, array in held.items() if last.get(source, -1) > k}
        return {port.name: held[source] for port, source in self.outputs}

    def as_json(self) -> dict[str, Any]:
        """What the manifest says."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "inputs": [_described(port) for port in self.inputs],
            "outputs": [{**_described(port), "from": source.as_json()} for port, source in self.outputs],
            "chunks": [
                {
                    "package": stage.package,
                    "weight_bytes": stage.weight_bytes,
                    "inputs": [{**_described(port), "from": source.as_json()} for port, source in stage.inputs],
                    "outputs": [_described(port) for port in stage.outputs],
                    "crossing_bytes": stage.crossing_bytes,
                }
                for stage in self.stages
            ],
        }


class Part(NamedTuple):
    """A written chunk: its inputs and outputs by the names that the chunks know them under, those of the model's inputs
    and outputs among them."""

    package: str
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    weight_bytes: int
    crossing_bytes: int


def link(parts: Sequence[Part], inputs: Sequence[str], outputs: Sequence[str]) -> Pipeline:
    """The pipeline of written chunks, of which each reads what earlier ones give or the inputs of the model. Inputs and
    outputs of the model that no chunk has are left out."""
    sources: dict[str, Source] = {}
    taken: dict[str, Port] = {}
    given: dict[str, Port] = {}
    stages = []
    for k, part in enumerate(parts):
        for name, port in part.inputs.items():
            if name not in sources:
                sources[name], taken[name] = Source(None, name), port._replace(name=name)
        fed = [(port, sources[name]) for name, port in part.inputs.items()]
        sources.update((name, Source(k, port.name)) for name, port in part.outputs.items())
        given.update(part.outputs)
        stages.append(Stage(part.package, fed, list(part.outputs.values()), part.weight_bytes, part.crossing_bytes))
    return Pipeline(
        [taken[name] for name in inputs if name in taken],
        [(given[name]._replace(name=name), sources[name]) for name in outputs if name in given],
        stages,
    )


def read_pipeline(folder: Path) -> Pipeline:
    """The pipeline in a folder. EmitError if its manifest is missing or makes no sense."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise EmitError(f"{str(path)!r} is not a manifest of version {VERSION}")
        pipeline = Pipeline(
            [_port(entry) for entry in content["inputs"]],
            [(_port(entry), _source(entry["from"])) for entry in content["outputs"]],
            [
                Stage(
                    chunk["package"],
                    [(_port(entry), _source(entry["from"])) for entry in chunk["inputs"]],
                    [_port(entry) for entry in chunk["outputs"]],
                    chunk["weight_bytes"],
                    chunk["crossing_bytes"],
                )
                for chunk in content["chunks"]
            ],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EmitError(f"the manifest {str(path)!r} cannot be read: {error!r}") from None
    _check(pipeline, path)
    return pipeline


def _check(pipeline: Pipeline, path: Path) -> None:
    """EmitError unless packages lie in the folder and everything is fed by what is there before it."""
    known = {Source(None, port.name) for port in pipeline.inputs}
    for k, stage in enumerate(pipeline.stages):
        if Path(stage.package).name != stage.package:
            raise EmitError(f"the manifest {str(path)!r} names {stage.package!r}, which is not in its folder")
        missing = [source for _, source in stage.inputs if source not in known]
        if missing:
            raise EmitError(f"the manifest {str(path)!r} feeds chunk {k} with {missing[0]}, which nothing gives before")
        known |= {Source(k, port.name) for port in stage.outputs}
    for port, source in pipeline.outputs:
        if source not in known:
            raise EmitError(f"the manifest {str(path)!r} takes output {port.name!r} from {source}, which nothing gives")


def new_pipeline(folder: Path) -> AbstractContextManager[Path]:
    """An empty folder to write packages to, which takes the place of `folder` if nothing fails; then an earlier
    pipeline there is gone. EmitError if there is something else, or nothing can be written."""
    return new_folder(folder, (folder / MANIFEST).is_file(), "a pipeline")


def write_manifest(folder: Path, pipeline: Pipeline) -> None:
    """The manifest beside the packages."""
    text = json.dumps(pipeline.as_json(), indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _described(port: Port) -> dict[str, Any]:
    return {"name": port.name, "shape": list(port.shape), "dtype": port.dtype}


def _port(entry: Any) -> Port:  # Any: JSON
    return Port(entry["name"], tuple(map(int, entry["shape"])), entry["dtype"])


def _source(entry: Any) -> Source:  # Any: JSON
    return Source(None, entry["model"]) if "model" in entry else Source(int(entry["chunk"]), entry["output"])

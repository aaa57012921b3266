"""A model as several packages in a folder, none with more weights than was asked for, and how to run them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from compiler.errors import UsageError
from compiler.graph import Graph, Value
from compiler.pipeline import Part, Pipeline, Port, link, new_pipeline, read_pipeline, write_manifest
from compiler.split import Chunk, Stored, parse_size, split_graph
from compiler.target import Artifact
from compiler.tensor import F16, F32, F64, Array, DType
from passes.drop_empty import is_empty

A = TypeVar("A", bound=Artifact)


class Contents(NamedTuple):
    """What the manifest says of a package: its inputs and outputs, by the model's names, and the bytes of its
    weights."""

    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    weight_bytes: int


class Written(NamedTuple, Generic[A]):
    """The folder, its manifest, the packages, and for each the values of the whole graph that its values are."""

    folder: Path
    pipeline: Pipeline
    chunks: Sequence[A]
    originals: Sequence[Mapping[Value, Value]]

    def run(
        self,
        folder: Path,
        features: Mapping[str, Array],
        execute: Callable[[int, Mapping[str, Array]], dict[str, Array]],
    ) -> dict[str, Array]:
        """The outputs of the model by the manifest in `folder`, which may have been moved; `execute` runs one chunk."""
        pipeline = read_pipeline(folder)
        for chunk, stage in zip(self.chunks, pipeline.stages, strict=True):
            chunk.path = folder / stage.package
        return pipeline.run(features, execute)

    def warnings(self) -> list[str]:
        """Of all packages, each once."""
        return list(dict.fromkeys(warning for chunk in self.chunks for warning in chunk.warnings))

    def told(self) -> str:
        """What became of --split, in a sentence."""
        stages = self.pipeline.stages
        weights = ", ".join(f"{stage.weight_bytes:,}" for stage in stages)
        crossing = ", ".join(f"{stage.crossing_bytes:,}" for stage in stages[:-1])
        return f"split into {len(stages)} packages of {weights} bytes of weights; {crossing} bytes cross the cuts"


def checked_split(text: str | None, moves: bool) -> int | None:
    """The size that --split asks for. UsageError if it is none, or if layers at the borders are to be left out."""
    if text is not None and moves:
        raise UsageError("--split keeps the layout of inputs and outputs", hint="leave --io-layout away")
    return None if text is None else parse_size(text)


def chunks_of(
    graph: Graph,
    limit: int,
    stored: Sequence[Stored],
    halves: bool,
    may_cross: Callable[[Value], bool],
    width: Callable[[DType], int],
) -> list[Chunk]:
    """The parts of a graph. Floats cross in 16 bits if `halves`; else `width` are the bytes of an element."""

    def narrowed(v: Value) -> DType | None:
        return F16 if halves and v.type.dtype in (F32, F64) else None

    def nbytes(v: Value) -> float:
        if not may_cross(v) or is_empty(v):
            return math.inf
        half = halves and v.type.dtype.is_float and not (v.n_out and v.type.dtype is not F16)
        return v.type.size * (2 if half else width(v.type.dtype))

    return split_graph(graph, limit, stored, nbytes, narrowed)


def write_chunks(
    path: Path,
    suffix: str,
    graph: Graph,
    chunks: Sequence[Chunk],
    package: Callable[[Graph, Path], A],
    contents: Callable[[A, Chunk], Contents],
) -> Written[A]:
    """Write every chunk as a package, and the manifest beside them, to a folder that appears complete or not at all:
    `path` without its suffix.

    package   writes a graph as a package
    contents  what is in one
    """
    folder = path.with_suffix("") if path.suffix == suffix else path
    names = [f"{folder.name}_{k}{suffix}" for k in range(len(chunks))]
    with new_pipeline(folder) as new:
        artifacts = [package(chunk.graph, new / name) for chunk, name in zip(chunks, names, strict=True)]
        parts = [
            Part(name, *contents(a, chunk), chunk.crossing)
            for chunk, name, a in zip(chunks, names, artifacts, strict=True)
        ]
        pipeline = link(parts, [v.name for v in graph.inputs], graph.output_names)
        write_manifest(new, pipeline)
    for artifact, name in zip(artifacts, names, strict=True):
        artifact.path = folder / name
    return Written(folder, pipeline, artifacts, [chunk.originals for chunk in chunks])


def size_warning(size: int, most: int, taken: str) -> list[str]:
    """What to say of a package with `size` bytes of weights, when one of more than `most` is larger than is taken."""
    told = f"the package holds {size / 1e9:.2f} GB of weights; {taken}: --split 1GB writes several"
    return [told] if size > most else []

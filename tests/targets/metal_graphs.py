"""Graphs as Metal sources, run with every check."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from codegen.metal.kernel import MetalKernel
from codegen.metal.source import source
from codegen.program import Call
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.tensor import Array
from targets.metal.artifact import MetalArtifact
from targets.metal.emit import Form, lowered, write_model
from targets.metal.singles import singles
from tests.targets.metal_source import TYPES, launch, run
from tests.targets.neon_graphs import expect_close

FORM = Form("t", "fp32")


def results(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What the sources of a graph compute."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model"
        written = write_model(lowered(singles(graph), FORM), "t", path, FORM)
        return MetalArtifact(path, graph, written).run(feeds)


def calls(graph: Graph) -> Sequence[Call]:
    """The dispatches of a graph."""
    return lowered(singles(graph), FORM).calls


def expect_same(graph: Graph, feeds: Mapping[str, Array], rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """AssertionError unless the sources compute what the reference does: integers and booleans exactly, floats of fewer
    than 32 bits up to two of their own steps; those of 64 bits as such of 32."""
    with np.errstate(all="ignore"):
        wanted = evaluate(graph, feeds)
    got = results(graph, feeds)
    for v, (name, expected) in zip(graph.outputs, wanted.items(), strict=True):
        bits = min(v.type.dtype.bits, 32)
        expect_close(f"{name}: {v.node!r}", bits, got[name], expected, rtol, atol)


def run_kernel(kernel: MetalKernel, given: Sequence[Array], result: Array, numbers: Sequence[int | float]) -> Array:
    """What one kernel writes in the place of `result`, which is its last buffer."""
    names = [p.name for p in kernel.pointers]
    values = dict(zip((p.name for p in kernel.numbers), numbers, strict=True))
    way = kernel.launch(values)
    memory = [t.nbytes for t in kernel.tiles]
    step = launch(kernel.name, names, way.groups, way.threads, values, memory, barrier=False)
    kinds = {p.name: p.ctype for p in kernel.numbers}
    for number in step.get("numbers", ()):
        number["type"] = kinds[number["name"]]
    text = source("t", [kernel]).split("using namespace metal;", 1)[1]
    inputs = dict(zip(names[:-1], given, strict=True))
    with tempfile.TemporaryDirectory() as name:
        (got,) = run(Path(name), text, inputs, {names[-1]: (TYPES[result.dtype], result.shape)}, [step])
    return got

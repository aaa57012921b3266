"""Products as Metal sources: some calls of kernels as one text, and graphs as models."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codegen.metal.kernel import MetalKernel
from codegen.metal.source import source
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.pass_manager import PassManager
from compiler.tensor import Array
from targets.metal import TARGET
from tests.targets.metal_source import TYPES, launch, run

BOUND = {"float": 90.0, "half_t": 50.0, "fp32": 90.0, "fp16": 50.0}  # decibels
NUMPY = {"float": np.float32, "half_t": np.float16}


class Case(NamedTuple):
    """A call of a kernel: what its buffers hold, but the last, which is where it writes; the exact result as the type
    that is written; its numbers."""

    kernel: MetalKernel
    given: Sequence[Array]
    exact: Array
    numbers: Sequence[int | float]


def run_cases(cases: Sequence[Case], change: Callable[[str], str] = str) -> list[Array]:
    """What they write, run one after the other with every check, after a `change` of the text."""
    inputs: dict[str, Array] = {}
    outputs: dict[str, tuple[str, tuple[int, ...]]] = {}
    steps: list[dict[str, Any]] = []
    for at, case in enumerate(cases):
        pointers = [p.name for p in case.kernel.pointers]
        names = [f"{name}{at}" for name in pointers]
        inputs |= dict(zip(names[:-1], case.given, strict=True))
        outputs[names[-1]] = (TYPES[case.exact.dtype], case.exact.shape)
        values = dict(zip((p.name for p in case.kernel.numbers), case.numbers, strict=True))
        way = case.kernel.launch(values)
        memory = [t.nbytes for t in case.kernel.tiles]
        steps.append(launch(case.kernel.name, names, way.groups, way.threads, values, memory, barrier=False))
    kernels = list(dict.fromkeys(case.kernel for case in cases))
    text = change(source("t", kernels).split("using namespace metal;", 1)[1])
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), text, inputs, outputs, steps)


def decibels(got: Array, exact: Array) -> float:
    """The signal over the error."""
    wide = exact.astype(np.float64)
    error = float(np.square(got.astype(np.float64) - wide).sum())
    return 10 * float(np.log10(max(float(np.square(wide).sum()), 1e-30) / max(error, 1e-300)))


def kernels_of(graph: Graph, precision: str) -> list[str]:
    """The kernels of a model, whose results are right: more than so many decibels over the error in each of them."""
    target = TARGET(precision=precision, checks="on")
    prepared = target.prepare(PassManager(target.pipeline()).run(graph.clone()).graph)
    rng = np.random.default_rng(7)
    x = {v.name: rng.standard_normal(v.type.dims).astype(np.float32) for v in graph.inputs}
    exact = evaluate(graph, x)
    with tempfile.TemporaryDirectory() as folder:
        artifact = target.emit(prepared, Path(folder) / "model")
        got = artifact.run(x)
        text = (artifact.path / "model.metal").read_text(encoding="utf-8")
    for name, wanted in exact.items():
        assert got[name].shape == wanted.shape
        assert decibels(got[name], wanted) > BOUND[precision], name
    return [line.split("kernel void ", 1)[1].split("(")[0] for line in text.splitlines() if "kernel void " in line]

"""Graphs of one layer through the nnapi target: lowered, written, executed by LiteRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compiler.graph import Graph
from compiler.tensor import Array, dtype_of
from targets.tflite.artifact import TfLiteArtifact
from targets.tflite.lower import TABLE
from targets.tflite.target import TfLiteTarget

TOLERANCE = {"f16": 4e-3, "bf16": 3e-2}  # relative to the largest element; everything is computed in float32
FLOAT32 = 1e-4


def emitted(graph: Graph, path: Path, precision: str = "fp32") -> TfLiteArtifact:
    """The file of a graph as it stands."""
    target = TfLiteTarget(precision=precision)
    return target.emit(target.prepare(graph), path)


def with_constants(graph: Graph, feeds: dict[str, Array]) -> tuple[Graph, dict[str, Array]]:
    """The graph and its feeds if the target takes it, else with all inputs but the first as constants."""
    if not TABLE.objections(graph) or len(graph.inputs) < 2:
        return graph, feeds
    first, *others = graph.inputs
    for v in others:
        constant = graph.const(feeds[v.name], v.name)
        for node in list(v.users):
            for i, operand in enumerate(node.inputs):
                if operand is v:
                    graph.set_operand(node, i, constant)
    graph.inputs = [first]
    return graph, {first.name: feeds[first.name]}


def assert_close(result: Array, expected: Array, what: str, tolerance: float = FLOAT32) -> None:
    """Equal in type and shape; equal in value, for floats up to the rounding of float32."""
    assert result.dtype == expected.dtype and result.shape == expected.shape, what
    dtype = dtype_of(expected)
    if not dtype.is_float:
        assert np.array_equal(result, expected), f"{what}: {result} is not {expected}"
        return
    bound = max(TOLERANCE.get(dtype.name, 0.0), tolerance)
    a, b = expected.astype(np.float64), result.astype(np.float64)
    scale = np.abs(a[np.isfinite(a)]).max(initial=0.0)
    assert np.allclose(b, a, bound, bound * scale / 4, equal_nan=True), f"{what}: {b} is not {a}"

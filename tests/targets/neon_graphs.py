"""Graphs as generated libraries, built with every warning an error, and run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from codegen.program import Call
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.tensor import Array
from targets.neon.artifact import NeonArtifact
from targets.neon.build import Toolchain
from targets.neon.emit import lowered, write_library
from tests.targets.neon_kernels import toolchains


def results(graph: Graph, feeds: Mapping[str, Array], tools: Toolchain) -> dict[str, Array]:
    """What the library of a graph computes."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "library"
        write_library(lowered(graph, "fp32", "base"), "t", path)
        return NeonArtifact(path, graph, [], tools).run(feeds)


def calls(graph: Graph) -> Sequence[Call]:
    """The schedule of a graph."""
    return lowered(graph, "fp32", "base").calls


def expect_same(graph: Graph, feeds: Mapping[str, Array], rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """AssertionError unless the library computes what the reference does, with every toolchain: integers and booleans
    exactly, floats of fewer than 32 bits up to two of their own steps."""
    with np.errstate(all="ignore"):
        wanted = evaluate(graph, feeds)
    for tools in toolchains():
        got = results(graph, feeds, tools)
        for node_output, (name, expected) in zip(graph.outputs, wanted.items(), strict=True):
            expect_close(f"{name}: {node_output.node!r}", node_output.type.dtype.bits, got[name], expected, rtol, atol)


STEPS = {16: 2.0**-8, 8: 2.0**-2, 4: 2.0**-1}


def expect_close(what: str, bits: int, got: Array, expected: Array, rtol: float, atol: float) -> None:
    """AssertionError unless integers and booleans are equal, and floats of so many bits close enough."""
    is_float = expected.dtype.kind == "f" or "float" in expected.dtype.name
    if not is_float:
        assert np.array_equal(got, expected), f"{what}: {got.reshape(-1)[:8]} is not {expected.reshape(-1)[:8]}"
        return
    a, b = got.astype(np.float64), expected.astype(np.float64)
    close = np.isclose(a, b, max(rtol, STEPS.get(bits, 0.0)), atol, equal_nan=True)
    assert close.all(), f"{what}: {a[~close][:5]} is not {b[~close][:5]}"

"""Libraries of layers beside each other, against what the operations mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compiler import ops
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.op import Op
from compiler.ops.window import Ints
from compiler.pass_manager import PassManager
from compiler.tensor import F32, Array, TensorType
from targets.neon import TARGET
from targets.neon.build import Toolchain, emulated, native

FLAGS = ("-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
TOOLS = [t for t in (native(FLAGS), emulated((*FLAGS, "-static"))) if t is not None]

Layer = tuple[Op, Ints, Sequence[Array]]  # an operation, its first operand's shape, constants


def graph_of(layers: Sequence[Layer]) -> Graph:
    """Layers beside each other, every other with a Relu behind it."""
    graph = Graph("layers")
    results = []
    for i, (op, shape, constants) in enumerate(layers):
        given = [graph.add_input(TensorType(F32, shape), f"x{i}"), *(graph.const(c) for c in constants)]
        (y,) = graph.add(op, *given, origin=frozenset((op.name,)))
        results.append(graph.add(ops.Relu(), y, origin=frozenset(("relu",)))[0] if i % 2 else y)
    graph.set_outputs(results, [f"y{i}" for i in range(len(results))])
    return graph


def check(layers: Sequence[Layer], tools: Toolchain, folder: Path, threads: int = 1) -> set[str]:
    """The library of some layers computes what they do; returns the families of kernels in it."""
    return check_graph(graph_of(layers), tools, folder, threads)


def check_graph(graph: Graph, tools: Toolchain, folder: Path, threads: int = 1) -> set[str]:
    """The same for a graph."""
    target = TARGET(threads=threads)
    prepared = target.prepare(PassManager(target.pipeline()).run(graph.clone()).graph)
    artifact = target.emit(prepared, folder / "library")
    artifact.tools = tools
    rng = np.random.default_rng(7)
    x = {v.name: rng.standard_normal(v.type.dims).astype(np.float32) for v in graph.inputs}
    got, want = artifact.run(x), evaluate(graph, x)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-4, err_msg=name)
    return {f.stem.removeprefix("kernels_") for f in (folder / "library").glob("kernels_*.c")}

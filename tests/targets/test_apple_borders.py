"""Inputs and outputs that lie as the engine has them: what is left to the caller, and that the numbers are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.op import Op
from compiler.ops.activation import Relu
from compiler.ops.parts import Concat
from compiler.ops.shape import Reshape, Transpose
from compiler.tensor import F32, Array, TensorType
from targets.apple.borders import borders, padded_bytes
from targets.coreml.target import CoreMLTarget
from tests.targets.coreml_layers import kinds

IN = [Transpose(perm=(0, 1, 3, 2)), Reshape(shape=(1, 64, 1, 128))]
OUT = [Reshape(shape=(1, 2, 32, 160)), Transpose(perm=(0, 1, 3, 2))]


def cached() -> Graph:
    """A cache of 128 keys that 32 new ones come behind, given and taken as (B, H, S, D)."""
    graph = Graph("cache")
    past, new = graph.add_input(TensorType(F32, (1, 2, 128, 32)), "past"), TensorType(F32, (1, 64, 1, 32))
    moved = _chain(graph, past, *IN)
    joined = graph.add(Concat(axis=3), moved, graph.add(Relu(), graph.add_input(new, "new"))[0])[0]
    graph.set_outputs([_chain(graph, joined, *OUT), graph.add(Relu(), joined)[0]], ["present", "used"])
    return graph


def _chain(graph: Graph, value: Value, *moves: Op) -> Value:
    for op in moves:
        (value,) = graph.add(op, value)
    return value


def _feeds() -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {
        "past": rng.standard_normal((1, 2, 128, 32)).astype(np.float32),
        "new": rng.standard_normal((1, 64, 1, 32)).astype(np.float32),
    }


def test_moves_at_borders_are_left_out_and_done_by_the_caller(tmp_path: Path) -> None:
    graph = cached()
    expected = evaluate(graph, _feeds())
    target = CoreMLTarget("fp32", io_layout="engine")
    artifact = target.emit(target.prepare(graph), tmp_path / "m.mlpackage")
    assert {p.name: p.shape for p in artifact.inputs} == {"past": (1, 64, 1, 128), "new": (1, 64, 1, 32)}
    assert {p.name: p.shape for p in artifact.outputs} == {"present": (1, 64, 1, 160), "used": (1, 64, 1, 160)}
    assert set(kinds(artifact.path)) == {"relu", "concat"}
    results = artifact.run(_feeds())
    for name, array in expected.items():
        np.testing.assert_array_equal(results[name], array)


def test_the_models_shapes_stay_by_default(tmp_path: Path) -> None:
    target = CoreMLTarget("fp32")
    artifact = target.emit(target.prepare(cached()), tmp_path / "m.mlpackage")
    assert artifact.inputs[0].shape == (1, 2, 128, 32)
    assert kinds(artifact.path).count("transpose") == 2


def test_a_move_that_wastes_memory_stays_inside() -> None:
    """(1, 64) takes two rows of 64 bytes; (1, 64, 1, 1) takes 64 of them."""
    assert padded_bytes((1, 64)) == 128
    assert padded_bytes((1, 64, 1, 1)) == 64 * 64
    graph = Graph("pooled")
    x = graph.add_input(TensorType(F32, (1, 64)), "x")
    y = graph.add(Relu(), _chain(graph, x, Reshape(shape=(1, 64, 1, 1))))[0]
    graph.set_outputs([_chain(graph, y, Reshape(shape=(1, 64)))], ["y"])
    assert all(not border.moves for border in borders(graph, lambda _: True).values())


@pytest.mark.parametrize("extra", [False, True])
def test_an_input_that_is_only_moved_is_moved_once(extra: bool) -> None:
    graph = Graph("moved")
    x = graph.add_input(TensorType(F32, (1, 2, 128, 32)), "x")
    y = _chain(graph, x, *IN)
    graph.set_outputs([y, *([y] if extra else [])], ["y", "z"][: 1 + extra])
    found = borders(graph, lambda _: True)
    taken = [node for border in found.values() for node in border.nodes]
    assert len(taken) == len(set(taken)) == 2
    assert found[x].value is y

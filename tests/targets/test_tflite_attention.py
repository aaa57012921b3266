"""Attention in TensorFlow Lite: masks and queries that see nothing, and whole blocks after the target's own passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ops.attention import Attention
from compiler.ops.elementwise import Mul, Sub
from compiler.ops.shape import Reshape
from compiler.rewrite import Unobserved
from compiler.tensor import BOOL, F32, Array
from targets.tflite.artifact import TfLiteArtifact
from targets.tflite.target import BLOCKS, TfLiteTarget
from tests.passes.blocks import attention, block, layer_norm
from tests.passes.composed import Net, Term
from tests.passes.weighted import dense
from tests.targets.tflite_harness import assert_close, emitted

LOW, HEADS, QUERIES, KEYS = -np.inf, 2, 5, 5
RNG = np.random.default_rng(4)
SHAPES = {
    "keys": (KEYS,),
    "queries and keys": (QUERIES, KEYS),
    "queries": (1, 1, QUERIES, 1),
    "all": (2, 1, QUERIES, KEYS),
}


def attended(net: Net, mask: Term | Array, layers: int = 2, *, causal: bool = False) -> Graph:
    """As many attentions, each of the result of the one before, with one mask."""
    mask = net(Reshape(shape=mask.value.type.shape), mask) if isinstance(mask, Term) else mask
    y = net.input(2, HEADS, QUERIES, 3)
    k, v = net.input(2, HEADS, KEYS, 3), net.input(2, HEADS, KEYS, 3)
    for _ in range(layers):
        y = net(Attention(scale=0.5, causal=causal), y, k, v, mask)
    return net.returns(y)


def runs(graph: Graph, path: Path, mask: Array | None = None) -> TfLiteArtifact:
    """The file, which must give what the graph gives, also where a query sees no key."""
    feeds: dict[str, Array] = {v.name: RNG.normal(size=v.type.dims).astype(np.float32) for v in graph.inputs}
    if mask is not None:
        feeds[graph.inputs[0].name] = mask
    artifact = emitted(graph, path / "m.tflite")
    (expected,), (found,) = evaluate(graph, feeds).values(), artifact.run(feeds).values()
    assert_close(found, expected, "attention")
    return artifact


def seen_by(shape: tuple[int, ...]) -> Array:
    """A random choice of keys with a query that sees none, if there are several queries."""
    seen = RNG.random(shape) < 0.6
    seen[(..., 2, slice(None)) if len(shape) > 1 else ...] = len(shape) == 1
    return seen


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("boolean", [False, True])
def test_queries_without_keys_give_zero(shape: tuple[int, ...], boolean: bool, causal: bool, tmp_path: Path) -> None:
    net, seen = Net(), seen_by(shape)
    graph = attended(net, net.input(*shape, dtype=BOOL if boolean else F32), causal=causal)
    mask = seen if boolean else np.where(seen, RNG.normal(size=shape), LOW).astype(np.float32)
    counts = runs(graph, tmp_path, mask).operators
    assert (counts["SOFTMAX"], counts["SELECT_V2"], counts["MUL"]) == (
        2,
        1,
        4,
    )  # what the mask needs once, and a factor


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_constant_masks(blind: bool, causal: bool, tmp_path: Path) -> None:
    seen = np.eye(QUERIES, KEYS, dtype=bool) | (RNG.random((QUERIES, KEYS)) < 0.3)
    seen[1] &= not blind
    counts = runs(attended(Net(), seen, causal=causal), tmp_path).operators
    assert (counts["ADD"], counts["MUL"], counts.get("SELECT_V2", 0)) == (2, 4 if blind else 2, 0)


def test_a_term_that_is_computed_is_finite(tmp_path: Path) -> None:
    net = Net()
    mask = net(Mul(), net(Sub(), 1.0, net.input(2, 1, 1, KEYS)), -10000.0)
    graph = attended(net, mask, layers=3)
    counts = runs(graph, tmp_path, (RNG.random((2, 1, 1, KEYS)) < 0.5).astype(np.float32)).operators
    assert (counts["ADD"], counts["MUL"], "SELECT_V2" in counts) == (3, 3 + 1, False)


def test_a_term_with_infinite_numbers_is_guarded(tmp_path: Path) -> None:
    net = Net()
    graph = attended(net, net.input(2, 1, 1, KEYS) + np.array([0, 0, LOW, LOW, LOW]))
    mask = np.zeros((2, 1, 1, KEYS), np.float32)
    mask[0, ..., :2] = LOW
    assert runs(graph, tmp_path, mask).operators["SELECT_V2"] == 1


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_blocks(data: st.DataObject, tmp_path: Path) -> None:
    """Blocks with wide and narrow heads, norms in front and behind, on batches; the passes leave one transpose for each
    attention with narrow heads."""
    batch, length, width = (data.draw(st.integers(1, n)) for n in (2, 6, 9))
    count, depth = data.draw(st.integers(1, 3)), data.draw(st.sampled_from((1, 3, 64)))
    net = Net()
    x = dense(net.input(batch, length, 4), width)
    for _ in range(data.draw(st.integers(1, 2))):
        if data.draw(st.booleans()):
            x = block(x)
        else:
            x = layer_norm(x)
            x = layer_norm(x + attention(x, count, depth, bias=data.draw(st.booleans())))
    graph = net.returns(layer_norm(x))
    feeds = {v.name: RNG.normal(size=v.type.dims).astype(np.float32) for v in graph.inputs}
    (expected,) = evaluate(graph, feeds).values()
    layers = len(graph.of(Attention))
    for step in (*BLOCKS, TfLiteTarget().pipeline()[-1]):
        step.run(graph, Unobserved())  # type: ignore[union-attr]  # none of them is a fixpoint
    graph.verify()
    artifact = emitted(graph, tmp_path / "m.tflite")
    (found,) = artifact.run(feeds).values()
    assert_close(found, expected, "block", 1e-3)
    assert artifact.operators.get("TRANSPOSE", 0) <= layers

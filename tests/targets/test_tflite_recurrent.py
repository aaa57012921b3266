"""Recurrent layers through LiteRT: every operand constant or given, every direction, gate function and length."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.op import Op
from compiler.ops import GRU, LSTM, RNN
from compiler.ops.gate import GATE_FUNCTIONS, parameters_of
from compiler.tensor import Array, type_of
from passes._decompose_recurrent import MAX_STEPS
from tests.targets.tflite_harness import emitted

STEPS, BATCH, FEATURES, HIDDEN = 5, 3, 4, 6
LENGTHS = np.array([5, 2, 0], np.int32)
KINDS: dict[str, tuple[type[Op], int]] = {"rnn": (RNN, 1), "gru": (GRU, 3), "lstm": (LSTM, 4)}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def operands(kind: str, directions: int, steps: int = STEPS, batch: int = BATCH) -> dict[str, Array]:
    """Random operands by name, in their order, all that there are."""
    rng = np.random.default_rng(len(kind) + directions)
    gates = KINDS[kind][1]

    def normal(*shape: int) -> Array:
        return (rng.standard_normal(shape) / 2).astype(np.float32)

    found = {
        "x": normal(steps, batch, FEATURES),
        "w": normal(directions, gates * HIDDEN, FEATURES),
        "r": normal(directions, gates * HIDDEN, HIDDEN),
        "b": normal(directions, 2 * gates * HIDDEN),
        "lens": LENGTHS[:batch],
        "h": normal(directions, batch, HIDDEN),
    }
    if kind == "lstm":
        found |= {"c": normal(directions, batch, HIDDEN), "p": normal(directions, 3 * HIDDEN)}
    return found


def built(op: Op, given: dict[str, Array], constant: set[str], absent: set[str]) -> tuple[Graph, dict[str, Array]]:
    """The layer, and the arrays of those operands that are inputs."""
    graph = Graph()
    values = [
        None if name in absent else graph.const(a, name) if name in constant else graph.add_input(type_of(a), name)
        for name, a in given.items()
    ]
    while values[-1] is None:
        values.pop()
    results = graph.add(op, *values)
    graph.set_outputs(results, [f"y{i}" for i in range(len(results))])
    return graph, {v.name: given[v.name] for v in graph.inputs}


def agrees(graph: Graph, feeds: dict[str, Array], tmp_path: Path) -> dict[str, int]:
    """LiteRT computes what the layer means; returns what the file is made of."""
    expected = evaluate(graph, feeds)
    artifact = emitted(graph, tmp_path / "m.tflite")
    for name, array in artifact.run(feeds).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=2e-6)
    return artifact.operators


def layer(kind: str, direction: str = "forward", **fields: Any) -> Op:  # Any: the fields of three operations
    cls = KINDS[kind][0]
    functions = fields.pop("functions", cls.default_functions)  # type: ignore[attr-defined]  # all three have them
    return cls(functions=functions * DIRECTIONS[direction], direction=direction, **fields)


GIVEN = {"nothing but x": ({"w", "r", "b"}, {"lens", "h", "c", "p"}), "weights": (set(), {"lens", "h", "c", "p", "b"}),
         "all": (set(), set()), "lengths": ({"w", "r", "b", "p", "c"}, {"h"}),
         "states": ({"w", "r", "b"}, {"lens", "p"}), "constant lengths": ({"w", "r", "b", "lens"}, {"p", "h", "c"}),
         "constant states": ({"w", "r", "b", "h", "c"}, {"p", "lens"})}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("given", GIVEN)
def test_operands_that_are_given(kind: str, direction: str, given: str, tmp_path: Path) -> None:
    constant, absent = GIVEN[given]
    graph, feeds = built(layer(kind, direction), operands(kind, DIRECTIONS[direction]), constant, absent)
    agrees(graph, feeds, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", sorted(GATE_FUNCTIONS))
def test_gate_functions(kind: str, function: str, tmp_path: Path) -> None:
    cls = KINDS[kind][0]
    functions = (function,) * len(cls.default_functions)  # type: ignore[attr-defined]  # all three have them
    alpha, beta = (parameters_of(functions, name, ()) for name in ("alpha", "beta"))
    op = layer(kind, functions=functions, alpha=alpha, beta=beta, clip=1.5)
    given = {name: a / 4 for name, a in operands(kind, 1).items() if name != "lens"} | {"lens": LENGTHS}
    given = {name: given[name] for name in operands(kind, 1)}
    graph, feeds = built(op, given, {"w", "r", "b"}, {"lens", "p"})
    agrees(graph, feeds, tmp_path)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("gru", {"linear_before_reset": True}),
        ("gru", {"clip": 0.3}),
        ("lstm", {"input_forget": True}),
        ("lstm", {"clip": 0.3}),
        ("rnn", {"clip": 0.3}),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_variants(kind: str, fields: dict[str, Any], batch: int, tmp_path: Path) -> None:
    for direction, count in DIRECTIONS.items():
        graph, feeds = built(
            layer(kind, direction, **fields), operands(kind, count, batch=batch), {"w", "r", "b"}, set()
        )
        agrees(graph, feeds, tmp_path)


def test_how_many_operators_a_step_of_a_gru_takes(tmp_path: Path) -> None:
    counts = {}
    for steps in (8, 18):
        op = layer("gru", linear_before_reset=True, clip=inf)
        graph, feeds = built(op, operands("gru", 1, steps, 1), {"w", "r", "b"}, {"lens", "h"})
        counts[steps] = sum(agrees(graph, feeds, tmp_path).values())
    assert counts[18] - counts[8] <= 11 * 10


def test_lstm_and_rnn_of_any_length_are_one_operator(tmp_path: Path) -> None:
    for kind, code in (("lstm", "UNIDIRECTIONAL_SEQUENCE_LSTM"), ("rnn", "UNIDIRECTIONAL_SEQUENCE_RNN")):
        given = operands(kind, 1, 2 * MAX_STEPS)
        graph, feeds = built(layer(kind), given, {"w", "r", "b"}, {"lens", "h", "c", "p"})
        counts = agrees(graph, feeds, tmp_path)
        assert counts[code] == 1 and sum(counts.values()) <= 10

"""Recurrent layers in integers: step by step, with the constants of each gate stored once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ops import GRU, LSTM, RNN
from compiler.pass_manager import PassManager
from compiler.tensor import Array, type_of
from targets.tflite.check import check
from targets.tflite.reader import File, read
from targets.tflite.target import TfLiteTarget

STEPS, FEATURES, HIDDEN = 6, 5, 8
RNG = np.random.default_rng(4)
KINDS: dict[str, tuple[type[Any], int, dict[str, Any]]] = {  # Any: the operations have fields of their own
    "rnn": (RNN, 1, {}),
    "gru": (GRU, 3, {}),
    "gru, reset late": (GRU, 3, {"linear_before_reset": True}),
    "lstm": (LSTM, 4, {}),
}
PARTS = {"rnn": 1, "gru": 2, "gru, reset late": 2, "lstm": 1}  # products with the state in a step


def layer(kind: str, directions: int) -> Graph:
    """A recurrent layer with random constants that begins with zeros."""
    cls, gates, fields = KINDS[kind]
    graph = Graph()
    x = graph.add_input(type_of(np.zeros((STEPS, 1, FEATURES), np.float32)), "x")

    def weight(*shape: int) -> Array:
        return (RNG.normal(size=(directions, *shape)) / np.sqrt(shape[-1])).astype(np.float32)

    constants = (weight(gates * HIDDEN, FEATURES), weight(gates * HIDDEN, HIDDEN), weight(2 * gates * HIDDEN))
    op = cls(
        functions=cls.default_functions * directions,
        direction="bidirectional" if directions == 2 else "forward",
        **fields,
    )
    y, *_ = graph.add(op, x, *(graph.const(c) for c in constants), origin=frozenset({"layer"}))
    graph.set_outputs([y], ["y"])
    return graph


def in_integers(graph: Graph, precision: str, path: Path) -> tuple[float, dict[str, int], File]:
    """The SNR of the outputs in LiteRT, the operators and the file."""
    rows = [{"x": RNG.normal(size=(STEPS, 1, FEATURES)).astype(np.float32)} for _ in range(12)]
    expected = np.stack([evaluate(graph, row)["y"] for row in rows])
    target = TfLiteTarget(precision=precision, calibrate=rows, observer="minmax", repair="off")
    target.strict = True
    PassManager(target.pipeline()).run(graph)
    artifact = target.emit(target.prepare(graph), path)
    noise = np.stack([artifact.run(row)["y"] for row in rows]) - expected
    snr = 10 * np.log10(np.square(expected).sum() / np.square(noise).sum())
    return float(snr), artifact.operators, read(path)


def weights(file: File) -> int:
    """How many tensors of 8 bits have a scale for each channel."""
    found = [t.quantization for t in file.subgraphs[0].tensors if t.dtype == "INT8"]
    return sum(q is not None and len(q.scale) > 1 for q in found)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_every_step_is_computed_in_integers(kind: str, directions: int, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    snr, operators, file = in_integers(layer(kind, directions), "int8", path)
    assert snr > 24
    assert "QUANTIZE" not in operators and not [f for f in check(path, "nnapi").findings if f.severity == "error"]
    assert weights(file) == PARTS[kind] + (2 if directions == 2 else PARTS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_bits_are_much_nearer(kind: str, tmp_path: Path) -> None:
    """Also where a state is subtracted from the zeros that it begins with."""
    snr, *_ = in_integers(layer(kind, 1), "int16x8", tmp_path / "m.tflite")
    assert snr > 38

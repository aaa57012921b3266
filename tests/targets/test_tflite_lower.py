"""Every operation with a lowering, as a layer of its own: LiteRT computes what the operation means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import compiler.ops  # noqa: F401  # registers the operations
from compiler.errors import LegalityError
from compiler.evaluate import evaluate
from compiler.op import OPS
from compiler.ops import Add, Clip, Conv, LayerNorm, MatMul, Relu, Reshape, Softmax
from compiler.tensor import DTYPES, F32, TensorType
from compiler.text_parse import parse_graph
from targets.tflite.lower import TABLE
from targets.tflite.schema import open_interpreter
from tests.one_op import layer_inputs, layer_of, one_layer
from tests.targets.tflite_harness import assert_close, emitted, with_constants

INSTANCES = 10  # of each operation
POLES = {"tan": 1e-3}  # the error of the sine and cosine grows without bound near them
UNSAMPLED = ("constant_of_shape",)  # it has no operand; tests/passes/test_decompose.py tries it
NAMES = sorted(op.name for op in TABLE.entries)


@pytest.mark.parametrize("name", NAMES)
def test_one_layer(name: str, tmp_path: Path) -> None:
    ran, refusals = 0, []
    for seed in range(INSTANCES):
        rng = np.random.default_rng(seed)
        graph = one_layer(OPS[name], rng)
        if graph is None:
            continue
        graph, feeds = with_constants(graph, layer_inputs(rng, graph))
        expected, what = evaluate(graph, feeds), f"seed {seed}: {next(graph.nodes)}"
        try:
            artifact = emitted(graph, tmp_path / "m.tflite")
        except LegalityError as e:
            refusals.append(str(e))
            continue
        results = artifact.run(feeds)
        for output, array in expected.items():
            assert_close(results[output], array, what, POLES.get(name, 1e-4))
        ran += 1
    assert ran or name in UNSAMPLED, f"all instances are refused: {refusals}"


def test_what_cannot_run_is_refused_all_at_once(tmp_path: Path) -> None:
    empty = layer_of(Relu(), (), TensorType(F32, (0, 3)))
    empty.set_outputs([empty.outputs[0], *empty.add(Relu(), empty.outputs[0])], ["y", "n"])
    with pytest.raises(LegalityError, match="2 layers cannot run") as caught:
        emitted(empty, tmp_path / "m.tflite")
    assert "needs tensors of known size with at least one element" in str(caught.value)
    assert not list(tmp_path.iterdir())


CONV = Conv(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))


@pytest.mark.parametrize(("low", "high", "fused"), [(0.0, float("inf"), 1), (-1.0, 1.0, 2), (0.0, 6.0, 3)])
def test_activations_are_fused_into_the_layer_before(low: float, high: float, fused: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 2, 3, 3)).astype(np.float32)
    graph = layer_of(CONV, (weight,), TensorType(F32, (1, 2, 5, 5)))
    (y,) = graph.add(Clip(low=low, high=high) if high < 7 else Relu(), graph.outputs[0])
    graph.set_outputs([y], ["y"])
    feeds = layer_inputs(rng, graph)
    artifact = emitted(graph, tmp_path / "m.tflite")
    assert artifact.operators["CONV_2D"] == 1 and sum(artifact.operators.values()) == 1 + artifact.operators.get(
        "TRANSPOSE", 0
    )
    assert_close(artifact.run(feeds)["y"], evaluate(graph, feeds)["y"], f"activation {fused}")


def test_an_activation_is_not_fused_where_its_operand_is_read_elsewhere(tmp_path: Path) -> None:
    graph = layer_of(Add(), (TensorType(F32, (4,)),), TensorType(F32, (4,)))
    total = graph.outputs[0]
    (y,) = graph.add(Relu(), total)
    (z,) = graph.add(Add(), total, y)
    graph.set_outputs([z], ["z"])
    artifact = emitted(graph, tmp_path / "m.tflite")
    assert artifact.operators == {"ADD": 2, "RELU": 1}
    feeds = {"x0": np.array([1, -2, 3, -4], np.float32), "x1": np.zeros(4, np.float32)}
    assert artifact.run(feeds)["z"].tolist() == [2, -2, 6, -4]


def test_an_activation_is_not_fused_through_a_reshape_of_what_is_read_elsewhere(tmp_path: Path) -> None:
    graph = layer_of(Add(), (TensorType(F32, (4,)),), TensorType(F32, (4,)))
    total = graph.outputs[0]
    (row,) = graph.add(Reshape(shape=(1, 4)), total)
    (y,) = graph.add(Relu(), row)
    (z,) = graph.add(Add(), total, y)
    graph.set_outputs([z], ["z"])
    feeds = {"x0": np.array([1, -2, 3, -4], np.float32), "x1": np.zeros(4, np.float32)}
    assert emitted(graph, tmp_path / "m.tflite").run(feeds)["z"].tolist() == [[2, -2, 6, -4]]


@pytest.mark.parametrize("steps", [5, 1])
def test_an_lstm_begins_every_invocation_with_its_own_states(steps: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    w, r = (rng.standard_normal(s).astype(np.float32) for s in ((1, 16, 3), (1, 16, 4)))
    x, state = TensorType(F32, (steps, 2, 3)), TensorType(F32, (1, 2, 4))
    op = OPS["lstm"](functions=("Sigmoid", "Tanh", "Tanh"))
    graph = layer_of(op, (w, r, None, None, state, state), x)
    feeds = layer_inputs(rng, graph)
    expected = evaluate(graph, feeds)
    artifact = emitted(graph, tmp_path / "m.tflite")
    assert ("UNIDIRECTIONAL_SEQUENCE_LSTM" in artifact.operators) == (steps > 1)
    interpreter = open_interpreter(str(artifact.path), 1)
    runner = interpreter.get_signature_runner("serving_default")
    for _ in range(3):
        results = runner(**feeds)
        for name, array in expected.items():
            assert_close(results[name], array, name)


def test_layers_of_transformers(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    x = TensorType(F32, (2, 3, 8))
    scale = rng.standard_normal(8).astype(np.float32)
    graph = layer_of(LayerNorm(axis=2), (scale, scale), x)
    (y,) = graph.add(MatMul(), graph.outputs[0], graph.const(rng.standard_normal((8, 4)).astype(np.float32)))
    (y,) = graph.add(Softmax(axis=1), y)
    graph.set_outputs([y], ["y"])
    feeds = layer_inputs(rng, graph)
    assert_close(emitted(graph, tmp_path / "m.tflite").run(feeds)["y"], evaluate(graph, feeds)["y"], "transformer")


def test_outputs_that_are_one_value_or_an_input(tmp_path: Path) -> None:
    text = 'graph(%x : f32[2]) {\n %y = add(%x, %x) : f32[2]\n return %y as "a", %y as "b", %x as "c"\n}'
    graph = parse_graph(text)
    results = emitted(graph, tmp_path / "m.tflite").run({"x": np.array([1, 2], np.float32)})
    assert {name: a.tolist() for name, a in results.items()} == {"a": [2, 4], "b": [2, 4], "c": [1, 2]}


def test_an_input_without_elements_stays_an_input(tmp_path: Path) -> None:
    graph = layer_of(Relu(), (), TensorType(F32, (2,)))
    graph.add_input(TensorType(F32, (0,)), "nothing")
    feeds = {"x0": np.array([-1, 1], np.float32), "nothing": np.zeros(0, np.float32)}
    assert emitted(graph, tmp_path / "m.tflite").run(feeds)["y0"].tolist() == [0, 1]


@pytest.mark.parametrize("dtype", ["f32", "i64", "bool", "u8"])
def test_an_output_without_elements(dtype: str, tmp_path: Path) -> None:
    graph = layer_of(Relu(), (), TensorType(F32, (2,)))
    nothing = graph.const(np.zeros((3, 0), DTYPES[dtype].numpy))
    graph.set_outputs([*graph.outputs, nothing], ["y0", "n"])
    results = emitted(graph, tmp_path / "m.tflite").run({"x0": np.array([-1, 1], np.float32)})
    assert results["n"].shape == (3, 0) and results["n"].dtype == DTYPES[dtype].numpy

"""The doctor measures what rounding costs layer by layer, and tells it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.api import compile_model
from compiler.calibrate.trial import Trial
from compiler.doctor.examine import examine
from compiler.doctor.layers import layers_of, unfitted
from compiler.doctor.measure import decibels
from compiler.graph import Graph, Value
from compiler.ops.activation import Relu
from compiler.ops.shape import Reshape
from compiler.simulate import simulated
from compiler.tensor import F32, TensorType
from tests.command import Command, convolutional
from tests.doctor_graphs import (
    ROWS,
    VECTORS,
    dense,
    diagnosis,
    gated,
    quantized_graph,
    shifted,
    through,
    uniform,
)
from tests.real_models import real_model


def test_noise_alone_is_that_of_one_rounding() -> None:
    """Rounding evenly spread numbers to steps of 2 / 255 leaves 20 log10(255) dB less the ratio to the deviation."""
    graph, trial = quantized_graph(through, uniform(ROWS, 64))
    found = {p.op: p for p in examine(graph, trial).layers}
    assert found["input"].alone_db == pytest.approx(20 * np.log10(255), abs=0.6)
    assert found["input"].alone_db == found["input"].accumulated_db
    assert found["dense"].accumulated_db < found["dense"].alone_db


def test_shares_tell_what_each_layer_adds_at_the_outputs() -> None:
    graph, trial = quantized_graph(lambda g, x: dense(g, dense(g, x)), VECTORS)
    found = examine(graph, trial)
    assert sum(p.share or 0 for p in found.layers) == pytest.approx(1)
    shares = [p.share or 0 for p in found.layers]
    assert shares == sorted(shares, reverse=True)
    total, signal = 0.0, 0.0
    exact = trial.run(simulated(graph, only=()).graph)
    for layer in layers_of(graph):
        own = {*layer.results, *layer.constants}
        rounded = trial.run(simulated(graph, only=own).graph)
        total += sum(float(np.square(a["y"] - b["y"]).sum()) for a, b in zip(exact[:8], rounded[:8], strict=True))
    signal = sum(float(np.square(a["y"]).sum()) for a in exact[:8])
    worst = found.layers[0].share
    assert worst is not None and worst < 1
    assert found.outputs["y"] == pytest.approx(decibels(signal, total), abs=2)  # roundings are about independent


def test_what_moves_numbers_is_no_layer_and_a_relu_belongs_to_what_it_ends() -> None:
    def make(graph: Graph, x: Value) -> Value:
        (y,) = graph.add(Relu(), dense(graph, x))
        return graph.add(Reshape(shape=(1, 4, 2)), y)[0]

    graph, _ = quantized_graph(make, VECTORS)
    assert [[n.op.name for n in layer.nodes] for layer in layers_of(graph)] == [[], ["dense", "relu"]]


def test_a_graph_of_floats_has_nothing_to_tell() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(F32, (1, 64)), "x")
    graph.set_outputs([dense(graph, x)], ["y"])
    found = examine(graph, Trial([{"x": VECTORS[:1]}]))
    assert not found.layers and found.notes == ["no layer is quantized"]


def test_constants_are_compared_with_what_they_were() -> None:
    graph, _, floats = shifted(0.05)
    found = unfitted(graph, floats)
    bias = next(v for v in graph.constants if v.type.shape == (4,))
    assert not found[bias].any()
    assert unfitted(graph, Graph()) == {} == unfitted(graph, None)


def test_the_record_is_plain() -> None:
    told = diagnosis(gated(-5.0), VECTORS).as_json()
    assert told.keys() == {"rows", "outputs_snr_db", "layers", "notes"}
    gate = next(p for p in told["layers"] if p["name"] == "gate")
    assert gate["op"] == "sigmoid" and gate["dtype"] == "i8" and gate["findings"][0]["cause"] == "fixed-scale"
    assert gate["findings"][0]["evidence"]["scale"] == pytest.approx(1 / 256)
    sound = next(p for p in diagnosis(through, VECTORS).layers if p.op == "input")
    assert not sound.findings and "of 256 codes are used" in sound.known


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small network and rows for it, in the current folder."""
    monkeypatch.chdir(tmp_path)
    onnx.save(convolutional(), tmp_path / "m.onnx")
    rows = uniform(12, 3, 8, 8)
    rows[:, 0] *= 100
    np.savez(tmp_path / "d.npz", x=rows)
    return tmp_path / "m.onnx"


def test_the_command_explains(command: Command, model: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    words = (model, "--target", "nnapi", "--precision", "int8", "--calibrate", "d.npz", "--repair", "off", "--explain")
    done = command(*words)
    assert done.code == 0, done.err
    assert "damage by layer" in done.out and "channel-spread: columns of the input" in done.out
    assert "what helps: " in done.out and "with all layers rounded" in done.out
    told = command(*words, "--json").report
    assert [s["name"] for s in told["stages"]][-1] == "explain"
    explained = told["explanation"]
    entry = next(p for p in explained["layers"] if p["op"] == "input")
    assert explained["rows"] > 0 and entry["findings"][0]["cause"] == "channel-spread"
    assert explained["outputs_snr_db"].keys() == {"b1"}


def test_floats_have_only_their_losses_explained(command: Command, model: Path) -> None:
    done = command(model, "--target", "onnx", "--explain")
    assert done.code == 0, done.err
    assert "explain: no layer is quantized" in done.out and "explain: the artifact shows no losses" in done.out
    assert "damage by layer" not in done.out
    assert command(model, "--target", "onnx", "--json").report["explanation"] is None


def test_the_function_explains_without_a_comparison(model: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    compiled = compile_model(
        model, "nnapi", precision="int8", calibrate=dict(np.load("d.npz")), verify="off", explain=True
    )
    found = compiled.report.explanation
    assert found is not None and found.layers[0].alone_db > 10


def test_scales_that_came_with_the_model_are_told() -> None:
    pytest.importorskip("ai_edge_litert")
    model = real_model("mlperf_tiny_resnet8_int8")
    compiled = compile_model(model.path, "nnapi", inputs=model.bind, verify="off", explain=True)
    found = compiled.report.explanation
    assert found is not None and found.layers
    assert any("the scales came with the model" in note for note in found.notes)
    assert any("for no layer: no output is one of floats" in note for note in found.notes)

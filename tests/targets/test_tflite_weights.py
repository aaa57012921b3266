"""Weights in 8 and 4 bits beside floats: what the files hold, and what LiteRT computes from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler import ops
from compiler.api import Compiled, compile_model
from compiler.calibrate.trial import mean_snr
from compiler.errors import UsageError
from compiler.oracle import open_session, run_session
from compiler.pass_manager import PassManager
from compiler.quantize import dequantized, quantized, symmetric
from compiler.tensor import I4, I8, Array
from targets.tflite.artifact import TfLiteArtifact
from targets.tflite.model import Constant, Model
from targets.tflite.reader import File, read
from targets.tflite.target import TfLiteTarget
from targets.tflite.weights import store_weights
from tests.passes.composed import Net
from tests.real_models import real_model
from tests.targets.test_tflite_int8 import rows_of


def compiled(name: str, folder: Path, weights: str | None) -> Compiled:
    model = real_model(name)
    return compile_model(
        model.path, TfLiteTarget(weights=weights), folder / "m.tflite", inputs=model.bind, verify="off"
    )


def snr_db(name: str, result: Compiled) -> float:
    session, rows = open_session(real_model(name).path), rows_of(real_model(name))[0]
    feeds = [{n: a[i : i + 1] for n, a in rows.items()} for i in range(20)]
    assert isinstance(result.artifact, TfLiteArtifact)
    return mean_snr([run_session(session, f) for f in feeds], list(result.artifact.run_rows(feeds)))


def stored(file: File, dtype: str) -> int:
    return sum(t.dtype == dtype and t.data is not None and t.size >= 2048 for t in file.subgraphs[0].tensors)


@pytest.mark.parametrize(
    ("weights", "dtype", "least", "share"), [("int8", "INT8", 40.0, 0.35), ("int4", "INT4", 19.0, 0.25)]
)
def test_models_keep_their_floats_around_small_weights(
    weights: str, dtype: str, least: float, share: float, tmp_path: Path
) -> None:
    whole = compiled("vit_fashion_b1", tmp_path, None).report.size
    result = compiled("vit_fashion_b1", tmp_path, weights)
    file = read(result.path)
    graph = file.subgraphs[0]
    assert {graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)} == {"FLOAT32"}
    assert stored(file, dtype) >= 8
    assert result.report.size < share * whole
    assert snr_db("vit_fashion_b1", result) > least
    for o in graph.operators:
        inputs = [graph.tensors[i] for i in o.inputs]
        assert o.code != "DEQUANTIZE" or inputs[0].dtype == "INT8", "4 bits would be expanded at each run"
        if len(inputs) > 1 and inputs[1].dtype in ("INT8", "INT4"):
            assert o.code in ("CONV_2D", "FULLY_CONNECTED") and inputs[1].quantization is not None
            assert len(inputs[1].quantization.scale) == inputs[1].shape[0]


def depthwise(weights: str, folder: Path) -> tuple[TfLiteArtifact, Array, Array]:
    """A depthwise convolution of 256 channels; what it should give with weights rounded, and what it gives."""
    rng = np.random.default_rng(3)
    w = rng.normal(size=(256, 1, 3, 3)).astype(np.float32)
    net = Net()
    x = net.input(1, 256, 8, 8)
    op = ops.Conv(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1), groups=256)
    graph = net.returns(net(op, x, w))
    target = TfLiteTarget(weights=weights)
    rewritten, _ = PassManager(target.pipeline()).run(graph)
    artifact = target.emit(target.prepare(rewritten), folder / "m.tflite")
    assert isinstance(artifact, TfLiteArtifact)
    params = symmetric(np.abs(w).max((1, 2, 3)), 0)
    rounded = dequantized(quantized(w, params, narrow=True), params)
    image = rng.normal(size=(1, 256, 8, 8)).astype(np.float32)
    padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = sum(
        padded[:, :, i : i + 8, j : j + 8] * rounded[:, 0, i, j, None, None] for i in range(3) for j in range(3)
    )
    return artifact, np.asarray(expected), artifact.run({"x0": image})["y0"]


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_what_no_kernel_reads_is_expanded_from_eight_bits(weights: str, tmp_path: Path) -> None:
    artifact, expected, measured = depthwise(weights, tmp_path)
    assert artifact.operators == {"DEPTHWISE_CONV_2D": 1, "DEQUANTIZE": 1}
    if weights == "int8":
        np.testing.assert_allclose(measured, expected, atol=1e-4)
    else:  # the scale is that of the 4 bits, in steps of 127 instead of 7
        assert mean_snr([{"y": expected}], [{"y": measured}]) > 38


def test_four_bits_lie_in_pairs() -> None:
    data = np.array([[1, -7, 3], [7, -1, 0]], np.float32)
    params = symmetric([7, 7], 0, I4)
    constant = Constant(data, None, np.dtype(np.int8), params, narrow=True)
    assert constant.nbytes == 3
    (piece,) = constant.pieces()
    assert [f"{b:02x}" for b in piece] == ["91", "73", "0f"]


def test_a_constant_is_stored_once_for_all_its_readers() -> None:
    model = Model()
    x = model.input("x", "FLOAT32", (1, 8))
    w = model.constant(np.ones((8, 8), np.float32))
    w.quant = symmetric(np.ones(8), 0, I8)
    (a,) = model.add("FULLY_CONNECTED", [x, w], [("FLOAT32", (1, 8))], {"KeepNumDims": True})
    (b,) = model.add("FULLY_CONNECTED", [a, w], [("FLOAT32", (1, 8))], {"KeepNumDims": True})
    (c,) = model.add("BATCH_MATMUL", [b, w], [("FLOAT32", (1, 8))], {"AdjX": False, "AdjY": False})
    model.outputs.append(("y", c))
    assert store_weights(model) == 1
    first, second, expansion, last = model.operators
    assert first.inputs[1] is second.inputs[1] and first.version == 12
    assert expansion.code == "DEQUANTIZE" and last.inputs[1] is expansion.outputs[0]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weights": "int2"}, "there is no form of weights 'int2' for nnapi"),
        ({"weights": "int4", "block_size": 32}, "stores no blocks of weights"),
        ({"block_size": 32}, "--block-size is for --weights"),
        ({"weights": "int8", "precision": "fp16"}, "--weights is for a model that computes in floats"),
    ],
)
def test_what_the_file_cannot_hold_is_refused(options: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        TfLiteTarget(**options)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_small_weights_are_verified_as_another_function(weights: str, tmp_path: Path) -> None:
    model = real_model("vit_fashion_b1")
    result = compile_model(model.path, "nnapi", tmp_path / "m.tflite", inputs=model.bind, weights=weights)
    assert result.report.passed and result.report.tolerance_db < 60

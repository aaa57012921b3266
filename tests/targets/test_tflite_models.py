"""The trained networks as TensorFlow Lite files, executed by LiteRT, and what the files hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.api import Compiled, compile_model
from compiler.errors import EmitError, MissingExtraError, UsageError
from compiler.target import make_target
from compiler.tensor import F32, TensorType
from targets.tflite.artifact import TfLiteArtifact
from targets.tflite.schema import open_interpreter, schema
from targets.tflite.target import TfLiteTarget
from tests.one_op import layer_of
from tests.real_models import RealModel, real_model, real_models
from tests.targets.tflite_harness import emitted

QUANTIZED = ("mlperf_tiny_resnet8_int8", "mlperf_tiny_streaming_ww_int8", "mobilenet_v1_025_128_qdq")
FLOAT = [m for m in real_models() if m.name not in QUANTIZED]
TRANSPOSES = {"vit_fashion_b1": 5, "vit_fashion_dyn": 5, "dreamgpt_dyn": 12, "gtcrn_simple": 32}  # 0 in all others
OPERATORS = {"vit_fashion_b1": 117, "vit_fashion_dyn": 119, "dreamgpt_dyn": 239}  # at most, in fp32
PRECISIONS = {"fp32": 90.0, "fp16": 60.0}
SMALL = ("mnist_cnn_opset8", "vit_fashion_b1", "silero_vad_16k_static")


def compiled(model: RealModel, path: Path, seed: int = 5, precision: str = "fp32", io_layout: str = "nhwc") -> Compiled:
    data = model.random_inputs(np.random.default_rng(seed))
    options = {"precision": precision, "io_layout": io_layout}
    target = make_target(TfLiteTarget, options)
    return compile_model(model.path, target, path / "m.tflite", inputs=model.bind, verify_data=data)


def operators(result: Compiled) -> dict[str, int]:
    assert isinstance(result.artifact, TfLiteArtifact)
    return result.artifact.operators


def read(path: Path) -> Any:  # Any: the generated schema classes have no types
    return schema().ModelT.InitFromPackedBuf(path.read_bytes())


@pytest.mark.parametrize("model", FLOAT, ids=lambda m: m.name)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_file_gives_what_onnx_runtime_gives(model: RealModel, precision: str, tmp_path: Path) -> None:
    result = compiled(model, tmp_path, precision=precision)
    assert result.report.verification and result.report.passed
    assert min(v.psnr_db for v in result.report.verification) > PRECISIONS[precision]
    assert operators(result).get("TRANSPOSE", 0) <= TRANSPOSES.get(model.name, 0)
    assert precision != "fp32" or sum(operators(result).values()) <= OPERATORS.get(model.name, np.inf)
    if precision == "fp16" and model.path.stat().st_size > 1_000_000:
        assert result.artifact.size < 0.6 * model.path.stat().st_size


@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_models_decide_as_onnx_runtime_does(name: str, tmp_path: Path) -> None:
    """Sums of floats in another order end on the other side of a half now and then, which layers behind it amplify."""
    verification = compiled(real_model(name), tmp_path).report.verification
    assert verification is not None
    (comparison,) = verification
    assert comparison.top1_agreement == 1.0 and comparison.psnr_db > 45


def test_images_are_channels_last_in_the_file_unless_kept(tmp_path: Path) -> None:
    model = real_model("mlperf_tiny_vww")
    shapes = {}
    for layout in ("nhwc", "keep", "nchw"):
        result = compiled(model, tmp_path, io_layout=layout)
        assert result.report.passed
        (details,) = open_interpreter(str(result.path), 1).get_input_details()
        shapes[layout] = tuple(details["shape"])
    (logical,) = (v.type.shape for v in result.graph.inputs)
    assert shapes["keep"] == shapes["nchw"] == logical
    assert shapes["nhwc"] in (logical, tuple(logical[i] for i in (0, 2, 3, 1)))


def test_super_resolution_reads_and_writes_channels_last(tmp_path: Path) -> None:
    result = compiled(real_model("super_resolution_opset10"), tmp_path)
    interpreter = open_interpreter(str(result.path), 1)
    assert [interpreter.get_input_details()[0]["shape"][-1], interpreter.get_output_details()[0]["shape"][-1]] == [1, 1]
    kept = operators(compiled(real_model("super_resolution_opset10"), tmp_path, io_layout="keep"))
    assert kept.get("TRANSPOSE", 0) == operators(result).get("TRANSPOSE", 0) == 0  # one channel: a reshape


@pytest.mark.parametrize("name", SMALL)
def test_the_same_bytes_every_time(name: str, tmp_path: Path) -> None:
    first = compiled(real_model(name), tmp_path).path.read_bytes()
    assert compiled(real_model(name), tmp_path).path.read_bytes() == first


@pytest.mark.parametrize("name", SMALL)
def test_what_the_file_says_of_itself(name: str, tmp_path: Path) -> None:
    model = real_model(name)
    result = compiled(model, tmp_path)
    file = read(result.path)
    (signature,) = file.signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [t.name.decode() for t in signature.inputs] == [v.name for v in result.graph.inputs]
    assert [t.name.decode() for t in signature.outputs] == result.graph.output_names
    assert all(
        code.builtinCode != schema().BuiltinOperator.CUSTOM and not code.customCode for code in file.operatorCodes
    )
    (metadata,) = file.metadata
    assert metadata.name == b"min_runtime_version"
    assert bytes(file.buffers[metadata.buffer].data).rstrip(b"\0").count(b".") == 2
    names = [t.name for t in file.subgraphs[0].tensors]
    assert len(set(names)) == len(names)


def test_constants_are_aligned_and_stored_once(tmp_path: Path) -> None:
    from compiler.ops import Add, MatMul

    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    graph = layer_of(MatMul(), (weight,), TensorType(F32, (2, 64)))
    shared = next(graph.nodes).inputs[1]
    (y,) = graph.add(MatMul(), graph.outputs[0], shared)
    (y,) = graph.add(Add(), y, graph.const(np.ones(1, np.float32)))
    graph.set_outputs([y], ["y"])
    artifact = emitted(graph, tmp_path / "m.tflite")
    data = artifact.path.read_bytes()
    assert artifact.size < 1.3 * weight.nbytes
    assert data[4:8] == b"TFL3" and data.find(np.ascontiguousarray(weight.T).tobytes()) % 16 == 0


def test_without_litert_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    schema.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match="ai-edge-litert") as caught:
            compiled(real_model("mnist_cnn_opset8"), tmp_path)
    finally:
        schema.cache_clear()
    assert "cincel[tflite]" in str(caught.value)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(UsageError, match="no precision 'int3' for nnapi"):
        compile_model(real_model("mnist_cnn_opset8").path, "nnapi", precision="int3")
    with pytest.raises(UsageError, match="no I/O layout 'nchw4' for nnapi"):
        compile_model(real_model("mnist_cnn_opset8").path, "nnapi", io_layout="nchw4")


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").mkdir()
    with pytest.raises(EmitError, match="cannot be written"):
        compiled(real_model("mnist_cnn_opset8"), tmp_path)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_constants_written_in_pieces_are_the_same_bytes(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compiled(real_model("mlperf_tiny_vww"), tmp_path, precision=precision).path.read_bytes()
    monkeypatch.setattr("targets.tflite.model.PIECE", 700)
    assert compiled(real_model("mlperf_tiny_vww"), tmp_path, precision=precision).path.read_bytes() == whole

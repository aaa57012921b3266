"""Transposes in .tflite files: as many as the report says and as its lower bound, none inside convolutional nets."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.light_models import source
from compiler.api import compile_model
from compiler.report import Report
from tests.command import Command
from tests.real_models import RealModel, real_model, real_models

PURE = (
    *("fastestdet", "mlperf_tiny_kws_dscnn", "mlperf_tiny_resnet8", "mlperf_tiny_vww"),
    *("mnist_14x14_opset9", "mobilenetv2s_cifar10_b1", "ppocr_v2_angle_cls", "super_resolution_opset10"),
    *("ultraface_rfb320_post", "yunet_n_320"),
)
FLOATS = [m for m in real_models() if not m.name.endswith(("int8", "qdq"))]


def report_of(model: RealModel, folder: Path) -> Report:
    path = folder / f"{model.name}.tflite"
    return compile_model(str(model.path), "nnapi", path, inputs=model.bind, verify="off").report


def test_pure_networks_are_among_the_models() -> None:
    assert set(PURE) <= {m.name for m in FLOATS}


@pytest.mark.parametrize("model", FLOATS, ids=lambda m: m.name)
def test_the_file_has_as_many_as_the_bound(model: RealModel, tmp_path: Path) -> None:
    report = report_of(model, tmp_path)
    found, chosen = report.transposes, report.ledger.measured["transposes"]
    assert found is not None
    assert found["out"] == found["lower_bound"] == chosen["out"]
    assert found["bytes_moved"] == found["lower_bound_bytes"] == chosen["bytes_moved"]
    assert report.as_json()["transposes"] == found
    if model.name in PURE:
        assert found["out"] == 0


@pytest.mark.parametrize("name", ["densenet121", "inception_v1", "inception_v2", "shufflenet", "squeezenet"])
def test_architectures_without_any(name: str, tmp_path: Path) -> None:
    found = compile_model(str(source(f"light_{name}")), "nnapi", tmp_path / "m.tflite", verify="off").report.transposes
    assert found is not None and (found["out"], found["lower_bound"], found["bytes_moved"]) == (0, 0, 0)
    assert found["in"] == {"shufflenet": 17, "inception_v1": 1, "inception_v2": 1}.get(name, 0)  # one of a weight


def test_the_summary_has_a_line(command: Command, tmp_path: Path) -> None:
    model = real_model("vit_fashion_b1")
    out = command(str(model.path), "--target", "nnapi", "--verify", "off", "-o", str(tmp_path / "m.tflite")).out
    line = next(line for line in out.splitlines() if line.startswith("transposes"))
    assert line.startswith("transposes: 13 in, ") and " bytes moved (lower bound " in line


def test_other_targets_have_none(command: Command, tmp_path: Path) -> None:
    path = str(real_model("mlperf_tiny_resnet8").path)
    assert compile_model(path, "onnx", tmp_path / "m.onnx", verify="off").report.as_json()["transposes"] is None

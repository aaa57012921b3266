"""Models quantized by ONNX Runtime to its own operators, compiled for every target."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from compiler import ops
from compiler.api import compile_model, load
from compiler.compare import compare
from compiler.evaluate import evaluate
from compiler.oracle import open_session, run_session
from compiler.tensor import Array
from targets.tflite.check import check
from tests.real_models import real_model

NAMES = ("mlperf_tiny_resnet8", "mobilenetv2s_cifar10_dyn", "mlperf_tiny_vww")
LEAST_DB = {"nnapi": 30.0, "ane": 30.0, "edgetpu": 30.0, "onnx": 100.0}


class Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Feeds, one by one."""

    def __init__(self, feeds: list[dict[str, Array]]) -> None:
        self._feeds: Iterator[dict[str, Array]] = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


@cache
def stored(name: str, form: str = "QOperator") -> bytes:
    """A model with static shapes in ONNX Runtime's 8 bits."""
    model = real_model(name)
    feeds = [model.random_inputs(np.random.default_rng(seed)) for seed in range(4)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "q.onnx"
        quantize_static(onnx.load(model.path), str(path), Rows(feeds), quant_format=QuantFormat[form], per_channel=True)
        return path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_layers_compute_what_the_operators_do(name: str) -> None:
    """By our own meaning of the layers, but for sums that lie between two steps."""
    model = real_model(name)
    graph = load(stored(name), inputs=model.bind)
    graph.verify()
    feeds = model.random_inputs(np.random.default_rng(9))
    ((key, expected),) = run_session(open_session(stored(name)), feeds).items()
    assert compare(key, expected, evaluate(graph, feeds)[key]).psnr_db > 40


@pytest.mark.parametrize("target", LEAST_DB)
@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_compiled(name: str, target: str, tmp_path: Path) -> None:
    """It keeps its scales, is about as large, and nothing of it stays in floats but what had no integers."""
    source, model = stored(name), real_model(name)
    result = compile_model(source, target, tmp_path / "m", inputs=model.bind)
    report = result.report
    assert report.verification is not None and report.passed
    assert min(c.psnr_db for c in report.verification) >= LEAST_DB[target]
    assert report.size < 1.15 * len(source)
    if target == "nnapi":
        assert report.precision == "int8" and not any("NOT FULL INTEGER" in w for w in report.warnings)
        assert check(result.path, "nnapi").errors == ()


def test_both_forms_of_a_model_have_the_same_scales(tmp_path: Path) -> None:
    """QDQ and QOperator files of one model, made from the same rows."""
    scales = []
    for form in ("QOperator", "QDQ"):
        graph = compile_model(stored("mlperf_tiny_resnet8", form), "nnapi", tmp_path / f"{form}.tflite").graph
        convs = [n.output.type.quant for n in graph.of(ops.Conv)]
        assert all(convs) and len(convs) == 9
        scales.append(convs)
    assert scales[0] == scales[1]

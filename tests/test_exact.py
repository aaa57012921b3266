"""Which of the two is wrong, where an artifact and ONNX Runtime disagree: the model in float64 says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import compiler.exact
from compiler.api import compile_model, load
from compiler.compare import Comparison, Exact
from compiler.exact import Exactly
from compiler.ops.elementwise import Mul
from compiler.oracle import reference_run
from compiler.report import Report
from compiler.show import summary
from compiler.tensor import Array
from targets.onnx.artifact import OnnxArtifact
from tests.command import build, info, node

if TYPE_CHECKING:
    import onnx

ROWS = {"x": np.linspace(-20, -16, 32, dtype=np.float32).reshape(1, 32)}
SCALE = np.float32(1e9)
EXACT = np.exp(-np.logaddexp(0, -ROWS["x"].astype(np.float64))) * SCALE


@pytest.fixture
def tiny_chances() -> onnx.ModelProto:
    """A sigmoid far from where ONNX Runtime's approximation is good, magnified."""
    return build(
        [node("Sigmoid", "x", "p"), node("Mul", "p scale", "y")],
        [info("x", (1, 32))],
        [info("y", (1, 32))],
        {"scale": SCALE},
    )


def plant(monkeypatch: pytest.MonkeyPatch, result: Array) -> None:
    """Make it what artifacts give."""

    def run(_artifact: OnnxArtifact, _inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": result.astype(np.float32)}

    monkeypatch.setattr(OnnxArtifact, "run", run)


def compiled(model: onnx.ModelProto, target: str = "onnx", **options: Any) -> Report:
    return compile_model(model, target, verify_data=ROWS, **options).report


def judged(report: Report) -> Comparison:
    assert report.verification is not None
    (found,) = report.verification
    return found


def test_a_result_that_is_nearer_to_float64_than_onnx_runtime_passes(
    tiny_chances: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, EXACT)
    report = compiled(tiny_chances)
    found = judged(report)
    assert found.exact is not None and found.psnr_db < 60
    assert found.exact.result_db > 140
    assert found.exact.reference_db == pytest.approx(found.psnr_db, abs=1)
    assert report.passed and report.failure is None
    (told,) = [n for n in report.notes if "float64" in n]
    assert f"{found.exact.result_db:.1f} dB" in told and "'y'" in told and f"{found.exact.reference_db:.1f} dB" in told
    plain = json.loads(json.dumps(report.as_json()))["verification"]["outputs"][0]["float64"]
    assert plain == {
        "psnr_db": round(found.exact.result_db, 2),
        "onnxruntime_psnr_db": round(found.exact.reference_db, 2),
    }


@pytest.mark.parametrize("factor", [1.001, 0.5, -1.0, np.nan])
def test_a_wrong_result_fails_however_inexact_onnx_runtime_is(
    tiny_chances: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    """Even one that is nearer to float64 than ONNX Runtime is, but not as near as the target promises."""
    plant(monkeypatch, EXACT * factor)
    report = compiled(tiny_chances)
    assert not report.passed and report.failure is not None
    assert not [n for n in report.notes if "float64" in n]
    found = judged(report)
    assert found.exact is not None
    assert f"{found.exact.result_db:.1f} dB from the model in float64" in str(report.failure)


def test_a_result_further_from_float64_than_onnx_runtime_fails() -> None:
    assert Comparison("y", 1.0, 95.0, exact=Exact(80.0, 60.0)).meets(90.0)
    assert Comparison("y", 1.0, 58.0, exact=Exact(141.0, 58.0)).meets(90.0)
    assert not Comparison("y", 1.0, 58.0, exact=Exact(95.0, 95.0)).meets(90.0)
    assert not Comparison("y", 1.0, 58.0, exact=Exact(95.0, 120.0)).meets(90.0)
    assert not Comparison("y", 1.0, 58.0, exact=Exact(89.0, 50.0)).meets(90.0)
    assert not Comparison("y", 1.0, 58.0).meets(90.0)


def test_the_generated_library_is_nearer(tiny_chances: onnx.ModelProto, tmp_path: Path) -> None:
    report = compiled(tiny_chances, "neon", output=tmp_path / "sigmoid", run_on="native")
    found = judged(report)
    assert report.passed and found.exact is not None
    assert found.exact.result_db > 120 and found.exact.reference_db < 60


@pytest.mark.parametrize("factor", [1.001, 0.5])
def test_an_evaluator_that_errs_as_the_artifact_does_is_no_judge(
    tiny_chances: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    """Another reading of the model, which artifact and evaluator share, is none that ONNX Runtime is inexact in."""
    right = Mul.evaluate
    monkeypatch.setattr(Mul, "evaluate", lambda self, x, y: right(self, x, y) * factor)
    plant(monkeypatch, EXACT * factor)
    report = compiled(tiny_chances)
    assert not report.passed and judged(report).exact is None


def test_a_graph_that_is_not_the_model_is_no_judge(tiny_chances: onnx.ModelProto) -> None:
    """As one that the importer misread."""
    graph = load(tiny_chances)
    reference = reference_run(tiny_chances, graph, {}, ROWS, 0)
    assert Exactly(lambda: graph, reference, {}).outputs is not None
    misread = reference._replace(outputs={"y": reference.outputs["y"] * np.float32(1.001)})
    assert Exactly(lambda: graph, misread, {}).outputs is None


@pytest.mark.parametrize("bound", ["MOST_MACS", "MOST_SECONDS"])
def test_a_model_that_takes_too_long_stays_unjudged(
    tiny_chances: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    plant(monkeypatch, EXACT)
    monkeypatch.setattr(compiler.exact, bound, -1)
    report = compiled(tiny_chances)
    assert not report.passed and judged(report).exact is None


def test_rounded_precisions_are_not_judged(tiny_chances: onnx.ModelProto, tmp_path: Path) -> None:
    report = compiled(tiny_chances, "ane", precision="fp16", output=tmp_path / "a.mlpackage")
    assert judged(report).exact is None


def test_what_is_printed(tiny_chances: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, EXACT)
    report = compiled(tiny_chances)
    (told,) = [n for n in report.notes if "float64" in n]
    assert f"note: {told}\n" in summary(report)

"""The Python interface: what `from compiler import ...` gives, and what it takes."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon
import pytest

import compiler
from compiler import Compiled, PassManager, compile_model, load
from compiler.errors import (
    CompileError,
    LegalityError,
    OnnxError,
    ParseError,
    PassError,
    UsageError,
    VerificationError,
)
from compiler.graph import Graph
from compiler.pass_base import PASSES
from compiler.report import Report
from compiler.views import peak_bytes
from passes.fuse_conv_batch_norm import FuseConvBatchNorm
from passes.fuse_gelu import FuseGelu
from targets.onnx.target import OnnxTarget
from tests.command import ROOT, build, convolutional, f32, info, node
from tests.onnx_models import run
from tests.real_models import real_model

ROWS = np.random.default_rng(8).standard_normal((1, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def cnn() -> onnx.ModelProto:
    return convolutional()


def expected(model: onnx.ModelProto) -> np.ndarray[Any, np.dtype[Any]]:
    return run(model.SerializeToString(), ROWS)


def test_the_lines_of_the_readme(tmp_path: Path) -> None:
    """They run as they stand, in a folder beside the examples."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for block in blocks:
        argv = [sys.executable, "-c", block]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout


def test_passes_as_objects() -> None:
    model = real_model("vit_fashion_b1")
    compiled = compile_model(str(model.path), target="ane", passes=[FuseConvBatchNorm(), FuseGelu()])
    x = model.random_inputs(np.random.default_rng(1))
    result = compiled.run(x)
    assert list(result) == ["logits"] and result["logits"].shape == (1, 10)
    assert result["logits"].dtype == np.float32
    assert compiled.ledger.counts() == {"fuse-gelu": 4}
    assert compiled.report.verification is not None and compiled.report.verification[0].psnr_db > 45


def test_public_names_load_when_they_are_used() -> None:
    program = "import sys, compiler; before = {'numpy', 'compiler.api'} & sys.modules.keys(); compiler.load;"
    program += " print(before, 'compiler.api' in sys.modules, 'onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set() True False\n"
    assert compiler.__all__ == ["Compiled", "PassManager", "compile_model", "load"]
    assert set(compiler.__all__) <= set(dir(compiler)) | compiler.WHERE.keys()
    with pytest.raises(AttributeError, match="no attribute 'bogus'"):
        compiler.bogus  # noqa: B018  # the access is the test


def sources(model: onnx.ModelProto, folder: Path) -> dict[str, object]:
    """One model in every form that is taken."""
    path = folder / "m.onnx"
    onnx.save(model, path)
    (folder / "m.onnxtxt").write_text(
        onnx.printer.to_text(build([node("Relu", "x", "y")], [info("x", [2])], [info("y", [2])]))
    )
    data = model.SerializeToString()
    return {
        "str": str(path),
        "path": path,
        "bytes": data,
        "bytearray": bytearray(data),
        "memoryview": memoryview(data),
        "proto": model,
        "surgeon": onnx_graphsurgeon.import_onnx(model),
    }


@pytest.mark.parametrize("kind", ["str", "path", "bytes", "bytearray", "memoryview", "proto", "surgeon"])
def test_sources(kind: str, cnn: onnx.ModelProto, tmp_path: Path) -> None:
    source = sources(cnn, tmp_path)[kind]
    graph = load(source)
    assert graph.op_counts == {"batch_norm": 2, "conv": 2, "relu": 1}
    compiled = compile_model(source, "onnx")
    np.testing.assert_allclose(compiled.run({"x": ROWS})["b1"], expected(cnn), rtol=1e-4, atol=1e-5)
    assert compiled.report.verification is not None and compiled.report.passed


def test_a_model_in_text_form(cnn: onnx.ModelProto, tmp_path: Path) -> None:
    sources(cnn, tmp_path)
    compiled = compile_model(tmp_path / "m.onnxtxt", "onnx")
    np.testing.assert_array_equal(compiled.run({"x": f32([-1, 1])})["y"], f32([0, 1]))


def test_sources_that_are_none() -> None:
    for source in (7, None, ["m.onnx"], np.zeros(3)):
        with pytest.raises(
            OnnxError, match=r"a model is a path, bytes, a ModelProto or an onnx_graphsurgeon\.Graph, not "
        ):
            load(source)


def test_the_given_model_is_left_alone(cnn: onnx.ModelProto) -> None:
    before = cnn.SerializeToString(deterministic=True)
    compile_model(cnn, "onnx", verify="each")
    assert cnn.SerializeToString(deterministic=True) == before


def test_a_path_is_kept_and_a_temporary_artifact_is_not(cnn: onnx.ModelProto, tmp_path: Path) -> None:
    for target in ("onnx", "ane", "nnapi"):
        kept = compile_model(cnn, target, tmp_path / f"o.{target}")
        assert kept.path == tmp_path / f"o.{target}" == kept.artifact.path
        temporary = compile_model(cnn, target)
        path = temporary.path
        assert path.exists() and path.parent != tmp_path
        del temporary, kept
        gc.collect()
        assert not path.exists() and not path.parent.exists()
        assert (tmp_path / f"o.{target}").exists()


def test_nothing_temporary_is_left_behind_by_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = build([node("Identity", "x", "y")], [info("x", [2], 8)], [info("y", [2], 8)])
    with pytest.raises((LegalityError, OnnxError)):
        compile_model(text, "ane", verify="off")
    assert list(tmp_path.iterdir()) == []


def test_shapes_and_frozen_inputs() -> None:
    model = build([node("Add", "x k", "y")], [info("x", ["n", "t"]), info("k", [])], [info("y", ["n", "t"])])
    compiled = compile_model(model, "onnx", inputs={"x": (2, 5)}, freeze={"k": np.array(1.5)})
    x = np.ones((2, 5), np.float32)
    np.testing.assert_array_equal(compiled.run({"x": x})["y"], x + 1.5)
    graph = load(model, inputs={"x": [3, 4]}, freeze={"k": np.array(0)})
    assert [str(v.type) for v in graph.inputs] == ["f32[3,4]"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "missing: 'x'"),
        ({"x": ROWS, "z": ROWS}, "unknown: 'z'"),
        ({"x": ROWS[0]}, r"input 'x' has shape \[3, 8, 8\], the model was compiled for \[1, 3, 8, 8\]"),
        ({"x": ROWS.astype(np.int32)}, "input 'x' has element type int32, the model takes f32"),
    ],
)
@pytest.mark.parametrize("target", ["onnx", "ane", "nnapi"])
def test_inputs_of_a_run(target: str, inputs: dict[str, Any], words: str, cnn: onnx.ModelProto) -> None:
    with pytest.raises(UsageError, match=words):
        compile_model(cnn, target, verify="off").run(inputs)


def test_other_widths_of_an_input_are_converted(cnn: onnx.ModelProto) -> None:
    compiled = compile_model(cnn, "onnx", verify="off")
    np.testing.assert_allclose(compiled.run({"x": ROWS.astype(np.float64)})["b1"], expected(cnn), rtol=1e-4, atol=1e-5)


def test_passes_by_name_by_object_and_not_at_all(cnn: onnx.ModelProto) -> None:
    def layers(**options: Any) -> dict[str, int]:  # Any: handed on
        return compile_model(cnn, "onnx", verify="off", **options).graph.op_counts

    fused = {"conv": 2, "relu": 1}
    assert layers() == layers(passes="default") == layers(passes=[FuseConvBatchNorm()]) == fused
    assert layers(passes="fuse-conv-batch-norm") == fused
    assert layers(passes=[]) == layers(passes="") == {"batch_norm": 2, "conv": 2, "relu": 1}
    assert layers(skip=list(PASSES)) == layers(passes=[])


def test_the_manager_alone(cnn: onnx.ModelProto) -> None:
    graph, ledger = PassManager("fuse-conv-batch-norm").run(load(cnn))
    assert isinstance(graph, Graph) and graph.op_counts == {"conv": 2, "relu": 1}
    assert [(e.pass_name, sorted(e.before), e.after) for e in ledger.entries if e.status == "applied"] == [
        ("fuse-conv-batch-norm", ["batch_norm", "conv"], ("conv",))
    ] * 2


def test_a_target_as_an_object(cnn: onnx.ModelProto) -> None:
    compiled = compile_model(cnn, OnnxTarget(opset=15))
    assert onnx.load(compiled.path).opset_import[0].version == 15
    assert compiled.report.target == "onnx"


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"verify": "sometimes"}, UsageError, "verify is 'sometimes'"),
        ({"target": "tpu"}, UsageError, "no target named 'tpu'"),
        ({"precision": "fp16"}, UsageError, "there is no precision 'fp16' for onnx"),
        ({"image": ["x"]}, UsageError, "target onnx does not take --image"),
        ({"passes": "fold(x=1)"}, ParseError, "'fold' is a pipeline and takes no options"),
        ({"seed": -1}, UsageError, "the seed -1 is not a number from 0 on"),
        ({"seed": 1.5}, UsageError, "the seed 1.5 is not a number from 0 on"),
        ({"passes": "bogus"}, ParseError, "no pass or pipeline named 'bogus'"),
        ({"skip": ["bogus"]}, UsageError, "no pass named 'bogus'"),
        ({"output": "/none/o.onnx"}, UsageError, "the folder '/none' of the output does not exist"),
        ({"verify_data": {"y": ROWS}}, UsageError, "unknown: 'y'; missing: 'x'"),
    ],
)
def test_arguments_that_do_not_fit(
    cnn: onnx.ModelProto, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        compile_model(cnn, **{"target": "onnx", **options})
    assert getattr(caught.value, "exit_code", 0) == 2


def test_a_distance_beyond_tolerance_is_reported_not_raised(
    cnn: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxTarget, "tolerance_db", 500.0)
    report = compile_model(cnn, "onnx").report
    assert not report.passed and report.failure is not None and report.failure.exit_code == 3
    assert report.failure.hint == "--bisect names the rewrite"
    assert "output 'b1' is " in str(report.failure) and "500 dB are required" in str(report.failure)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_only_a_failure_of_half_precision_advises_the_single_one(
    cnn: onnx.ModelProto, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = compile_model(cnn, "ane", precision=precision).report
    assert (report.passed, str(report.failure)) == (True, "None")
    report.tolerance_db = 500.0
    assert ("--precision fp32" in str(report.failure)) == (precision == "fp16")


@pytest.mark.parametrize("error", [RuntimeError("it broke"), OnnxError("it broke")])
def test_an_artifact_that_cannot_be_verified_is_named(
    cnn: onnx.ModelProto, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("compiler.job.compare_all", broken)
    path = tmp_path / "o.onnx"
    with pytest.raises(VerificationError, match="it broke") as caught:
        compile_model(cnn, "onnx", path)
    assert caught.value.message.startswith(f"wrote {str(path)!r}, but it could not be verified: ")
    assert path.exists() and caught.value.exit_code == 3
    with pytest.raises(VerificationError, match=r"^the artifact could not be verified: "):
        compile_model(cnn, "onnx")


def test_memory_beyond_half_of_what_is_available_is_refused(
    cnn: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = load(cnn)
    held = sum(v.type.nbytes for v in (*graph.inputs, *graph.outputs))
    needed = held + peak_bytes(graph)
    monkeypatch.setattr("compiler.oracle.available_memory", lambda: 2 * needed)
    compile_model(cnn, "onnx")
    monkeypatch.setattr("compiler.oracle.available_memory", lambda: 2 * needed - 2)
    with pytest.raises(CompileError, match="more than half of the"):
        compile_model(cnn, "onnx")


def test_available_memory_is_within_the_limit_of_the_process() -> None:
    program = "import resource as r; r.setrlimit(r.RLIMIT_AS, (1 << 31, 1 << 31)); import compiler.oracle as o; "
    done = subprocess.run(
        [sys.executable, "-c", program + "print(o.available_memory())"],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0 < int(done.stdout) < (1 << 31) - (1 << 24)


def test_progress_and_dump(cnn: onnx.ModelProto) -> None:
    steps: list[tuple[str, int]] = []
    stages: list[tuple[int, str, int]] = []
    compile_model(
        cnn,
        "onnx",
        passes="fuse-conv-batch-norm,eliminate-common",
        dump=lambda number, stage, graph: stages.append((number, stage, len(graph))),
        progress=lambda step, total: steps.append((step, total)),
    )
    names = ["import", "reference run", "fuse-conv-batch-norm", "eliminate-common", "lower", "emit", "run the artifact"]
    assert steps == [(name, 7) for name in names]
    assert stages == [(0, "import", 5), (1, "fuse-conv-batch-norm", 3)]


def test_garbage_collection_is_as_it_was(cnn: onnx.ModelProto) -> None:
    assert gc.isenabled()
    compile_model(cnn, "onnx", verify="off")
    with pytest.raises(OnnxError):
        load(b"nonsense")
    assert gc.isenabled()
    gc.disable()
    try:
        load(cnn)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_strict_runs_raise(cnn: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that a pass does not deserve is found out."""
    from compiler.pass_base import ErrorClass

    monkeypatch.setattr(FuseConvBatchNorm, "error_class", ErrorClass.EXACT)
    assert compile_model(cnn, "onnx", verify="each").graph.op_counts["batch_norm"] == 2
    with pytest.raises(PassError, match="pass fuse-conv-batch-norm is exact, but rewrite"):
        compile_model(cnn, "onnx", verify="each", strict=True)


def test_the_result_is_a_compiled(cnn: onnx.ModelProto) -> None:
    compiled = compile_model(cnn, "onnx", verify="off")
    assert isinstance(compiled, Compiled) and isinstance(compiled.report, Report)
    assert compiled.report.size == compiled.path.stat().st_size
    assert compiled.report.verification is None and compiled.report.passed


def test_passes_of_ones_own_decide_whether_scales_are_kept(tmp_path: Path) -> None:
    """The target looks at the model also then: int8 needs data, or passes that take the scales over."""
    model = real_model("mlperf_tiny_resnet8_int8").path
    with pytest.raises(UsageError, match="needs data that shows what numbers occur"):
        compile_model(model, "nnapi", tmp_path / "a.tflite", passes="default", precision="int8")
    floats = compile_model(model, "nnapi", tmp_path / "b.tflite", passes="default")
    assert floats.report.precision == "fp32" and floats.report.passed
    text = "split-qlinear,default,choose-layout,absorb-qdq"
    kept = compile_model(model, "nnapi", tmp_path / "c.tflite", passes=text)
    assert kept.report.precision == "int8" and kept.report.passed

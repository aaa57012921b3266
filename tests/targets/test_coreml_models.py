"""The trained networks as Core ML packages, executed from disk, in both precisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.api import Compiled, compile_model
from compiler.ops import DequantizeLinear
from compiler.oracle import open_session, run_session
from compiler.tensor import Array
from tests.real_models import RealModel, real_model, real_models

EXCEPTIONS = {  # dB in fp16
    # a real number on the edge between two of 256 steps may fall into the other one
    "mlperf_tiny_resnet8_int8": 20.0,
    "mlperf_tiny_streaming_ww_int8": 20.0,
    "mobilenet_v1_025_128_qdq": 20.0,
    # the probability of speech in noise is near 0, and an error of its logit is one of its size
    "silero_vad_16k_static": 35.0,
}
LABELLED = [m for m in real_models() if m.rows and m.path.parent.name == "examples"]
ROWS = 200
MAY_DIFFER = 1  # of these rows may get another class in fp16


def compiled(model: RealModel, path: Path, precision: str, data: dict[str, Array]) -> Compiled:
    return compile_model(
        model.path, "ane", path / "m.mlpackage", precision=precision, inputs=model.bind, verify_data=data
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_package_gives_what_onnx_runtime_gives(model: RealModel, precision: str, tmp_path: Path) -> None:
    limit = EXCEPTIONS.get(model.name, 45.0) if precision == "fp16" else 60.0
    result = compiled(model, tmp_path, precision, model.random_inputs(np.random.default_rng(5)))
    assert result.report.verification
    assert min(v.psnr_db for v in result.report.verification) > limit
    assert [w for w in result.artifact.warnings if "lost constant proved (1e-10)" not in w] == []


def test_losses_name_where_a_quantized_model_rounds_otherwise(tmp_path: Path) -> None:
    model = real_model("mlperf_tiny_resnet8_int8")
    data = model.random_inputs(np.random.default_rng(2))
    result = compiled(model, tmp_path, "fp16", data)
    assert not result.report.passed
    losses = result.artifact.losses(result.graph, data)
    assert any(isinstance(loss.node.op, DequantizeLinear) and loss.result_db < 45 for loss in losses)


@pytest.mark.parametrize("model", LABELLED, ids=lambda m: m.name)
def test_classes_survive_fp16(model: RealModel, tmp_path: Path) -> None:
    """The largest scores of labelled rows; a single score is on the same side of one half."""
    inputs, labels = model.labelled()
    count = min(ROWS, len(labels))
    twin = next((m for m in real_models() if m.name == model.name.replace("_b1", "_dyn") and m is not model), None)
    step = count if twin else 1  # the same network with a free batch takes all rows at once
    source = twin or model
    bind = {n: (step, *inputs[n].shape[1:]) for n in inputs} if twin else model.bind
    artifact = compile_model(source.path, "ane", tmp_path / "m.mlpackage", inputs=bind, verify="off").artifact
    session = open_session(source.path)
    ours: list[Array] = []
    theirs: list[Array] = []
    for start in range(0, count, step):
        rows = {name: data[start : start + step] for name, data in inputs.items()}
        for results, collected in ((artifact.run(rows), ours), (run_session(session, rows), theirs)):
            collected.append(next(iter(results.values())).reshape(step, -1))
    a, b = np.concatenate(ours), np.concatenate(theirs)
    differ = (a > 0.5) != (b > 0.5) if a.shape[1] == 1 else a.argmax(1) != b.argmax(1)
    assert int(np.sum(differ)) <= MAY_DIFFER

"""The trained networks as Core ML packages, executed from disk, in both precisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.api import compile_model
from compiler.oracle import open_session, run_session
from tests.real_models import RealModel, real_models

LIMITS = {"fp32": 60.0, "fp16": 45.0}
LABELLED = [m for m in real_models() if m.rows and m.path.parent.name == "examples"]
MAY_DIFFER = 1 / 200  # share of labelled rows of which fp16 may change the class


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_package_gives_what_onnx_runtime_gives(model: RealModel, precision: str, tmp_path: Path) -> None:
    data = model.random_inputs(np.random.default_rng(5))
    result = compile_model(
        model.path, "ane", tmp_path / "m.mlpackage", precision=precision, inputs=model.bind, verify_data=data
    )
    verification = result.report.verification
    assert verification
    assert min(v.psnr_db for v in verification) > LIMITS[precision]
    assert result.artifact.warnings == []


@pytest.mark.parametrize("model", LABELLED, ids=lambda m: m.name)
def test_classes_survive_fp16(model: RealModel, tmp_path: Path) -> None:
    """Largest scores of labelled rows; a single score is on the same side of one half."""
    inputs, labels = model.labelled()
    artifact = compile_model(model.path, "ane", tmp_path / "m.mlpackage", inputs=model.bind, verify="off").artifact
    session = open_session(model.path)
    differ = 0
    for i in range(len(labels)):
        row = {name: data[i : i + 1] for name, data in inputs.items()}
        ours, theirs = (next(iter(r.values())).reshape(-1) for r in (artifact.run(row), run_session(session, row)))
        single = ours.size == 1
        differ += bool((ours > 0.5) != (theirs > 0.5)) if single else int(ours.argmax() != theirs.argmax())
    assert differ <= max(1, MAY_DIFFER * len(labels)), f"{differ} of {len(labels)} rows have another class"

"""--feature-level: layers that came to NNAPI later are replaced, and what is left is told or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from compiler.api import compile_model
from compiler.errors import LegalityError, UsageError
from targets.tflite.check import check
from targets.tflite.substitutions import NEWEST, checked_level, substitutions
from targets.tflite.target import TfLiteTarget
from tests.real_models import real_model


def leaky() -> Any:  # Any: onnx has no types
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, 6, 6]) for n in "xy")
    nodes = [helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.25)]
    return helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


ROWS = [{"x": np.random.default_rng(i).normal(size=(1, 4, 6, 6)).astype(np.float32)} for i in range(8)]


def codes(path: Path) -> set[str]:
    return {p.code for p in check(path, "nnapi").placements}


@pytest.mark.parametrize(("level", "kept"), [(None, True), (8, True), (3, True), (2, False), (1, False)])
def test_a_layer_that_came_later_is_replaced(level: int | None, kept: bool, tmp_path: Path) -> None:
    """NNAPI has PRELU, which takes a LEAKY_RELU in integers, from level 3 on."""
    path = tmp_path / "m.tflite"
    result = compile_model(leaky(), "nnapi", path, precision="int8", calibrate=ROWS, feature_level=level)
    assert result.report.passed and ("LEAKY_RELU" in codes(path)) is kept
    above = [w for w in result.report.warnings if w.startswith("ABOVE FEATURE LEVEL")]
    assert len(above) == (0 if check(path, "nnapi").level <= (level or NEWEST) else 1)


def test_levels_change_what_is_replaced() -> None:
    by_level = [{step.pass_name() for step in substitutions("nnapi", n)} for n in (1, 2, 3, 8, NEWEST)]  # type: ignore[union-attr]  # no groups
    assert by_level[2] == by_level[3] == by_level[4] and by_level[0] == by_level[1]
    assert by_level[1] - by_level[2] == {"substitute-leaky-relu", "substitute-max-pool"}


def test_what_is_left_is_told_or_refused(tmp_path: Path) -> None:
    model, path = real_model("mlperf_tiny_resnet8"), tmp_path / "m.tflite"
    options = {"precision": "int8", "calibrate": "synthetic", "observer": "minmax", "repair": "off", "feature_level": 2}
    told = compile_model(model.path, TfLiteTarget(**options), path, verify="off")  # type: ignore[arg-type]  # of many types
    (warning,) = [w for w in told.report.warnings if "FEATURE LEVEL" in w]
    assert warning.startswith("ABOVE FEATURE LEVEL 2: ") and "CONV_2D (x10) needs feature level 3" in warning
    path.unlink()
    with pytest.raises(LegalityError, match="CONV_2D"):
        compile_model(model.path, TfLiteTarget(**options), path, strict=True, verify="off")  # type: ignore[arg-type]
    assert not path.exists()


@pytest.mark.parametrize("level", [0, 9, -1])
def test_levels_that_there_are_not(level: int) -> None:
    with pytest.raises(UsageError, match=f"nnapi has no feature level {level}"):
        TfLiteTarget(feature_level=level)
    assert checked_level("nnapi", None) is None and checked_level("nnapi", 5) == 5


def test_the_edge_tpu_has_none() -> None:
    with pytest.raises(UsageError, match="does not take --feature-level"):
        compile_model(leaky(), "edgetpu", feature_level=3)

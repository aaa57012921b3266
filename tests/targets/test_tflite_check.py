"""The strict contract finds every planted fault in a valid file, under the right code, and nothing in the valid one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from targets.tflite.check import TARGETS
from targets.tflite.schema import open_interpreter
from tests.targets.tflite_faults import (
    FAULTS,
    FOLLOWS,
    PLACEMENT,
    WARNINGS,
    checked,
    float_input,
    scaled,
)
from tests.targets.tflite_files import int8_network

# -- the valid file -----------------------------------------------------------------------------------------


def test_the_valid_file_runs(tmp_path: Path) -> None:
    """Else its faults would mean nothing."""
    interpreter = open_interpreter(str(int8_network().write(tmp_path / "m.tflite")), 1)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.full((1, 8, 8, 4), 9, np.int8))
    interpreter.invoke()
    result = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert abs(int((result.astype(int) + 128).sum()) - 256) <= 10


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found_in_the_valid_file(target: str, strict: bool, tmp_path: Path) -> None:
    report = checked(int8_network(), tmp_path, target, strict)
    assert report.findings == ()
    assert (report.kind, report.operators, report.on_device, report.exit_code) == ("int8", 10, 10, 0)
    assert [p.operators for p in report.partitions] == [tuple(range(10))]


def test_levels_of_the_valid_file(tmp_path: Path) -> None:
    report = checked(int8_network(), tmp_path)
    levels = {p.code: p.level for p in report.placements}
    assert levels["CONV_2D"] == levels["TANH"] == levels["FULLY_CONNECTED"] == 3
    assert levels["ADD"] == levels["SOFTMAX"] == 1
    assert report.level_name == "feature level 3 (NNAPI 1.2, Android 10, API 29)"


# -- planted faults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", FAULTS)
def test_each_planted_fault_is_found(name: str, target: str, tmp_path: Path) -> None:
    edit, code, guilty = FAULTS[name]
    b = int8_network()
    edit(b)
    report = checked(b, tmp_path, target, strict=True)
    assert report.exit_code == (0 if (code, target) in WARNINGS else 3)
    places: list[Any] = [
        f.tensor_name if isinstance(guilty, str) else f.operator for f in report.findings if f.code == code
    ]
    assert guilty in places, report.text()
    others = {f.code for f in report.findings} - {code} - PLACEMENT
    assert others == FOLLOWS.get(name, set()), report.text()


def test_a_float_input_is_said_and_allowed(tmp_path: Path) -> None:
    b = int8_network()
    float_input(b)
    report = checked(b, tmp_path)
    assert [(f.code, f.severity, f.tensor_name) for f in report.findings] == [("float-io", "warning", "x")]
    assert report.exit_code == 0 and report.level == 4


def test_messages_say_what_to_do(tmp_path: Path) -> None:
    b = int8_network()
    scaled("dense/bias", 0.001)(b)
    (found,) = checked(b, tmp_path).findings
    wanted = "the scale is 0.001 where s_in * s_w is 0.000117187; quantize the bias again with that product"
    assert found.message == wanted
    assert found.where == 'operator 8 FULLY_CONNECTED, tensor 15 "dense/bias"'

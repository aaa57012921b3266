"""The option that says what may repair the cost of rounding, and in which order it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compiler.api import compile_model
from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.onnx_export import export_bytes
from compiler.pass_manager import PassManager
from targets.calibrated import BEFORE, BEHIND, Calibrated, repairs
from targets.tflite.int8_rules import scheme
from tests.passes.composed import Net
from tests.passes.repairing import convolution, rows_of

ROOT = Path(__file__).parent.parent


def names(repair: str, rows: int = 8) -> list[str]:
    """The passes that quantize."""
    return [str(p) for p in Calibrated(rows_of(network(), rows), "auto", repair).steps(scheme())]


def network() -> Graph:
    net, rng = Net(), np.random.default_rng(1)
    return net.returns(convolution(convolution(net.input(1, 3, 8, 8), 6, rng), 4, rng))


def test_all_are_tried_around_the_annotation() -> None:
    assert names("auto") == [*BEFORE, "annotate-int8", *BEHIND]


def test_none_or_some_can_be_asked_for() -> None:
    assert names("off") == ["annotate-int8"]
    assert names("correct-bias, equalize-layers") == ["equalize-layers", "annotate-int8", "correct-bias"]


def test_an_unknown_repair_is_named() -> None:
    with pytest.raises(UsageError, match="no repair named 'pray', 'hope'"):
        repairs("pray,correct-bias,hope")


def test_rows_of_the_trial_are_not_those_that_weights_are_fitted_to() -> None:
    graph = network()
    calibrated = Calibrated(rows_of(graph, 10), "minmax")
    trial, rows = calibrated.trial(graph).feeds, calibrated.rows(graph).feeds
    assert len(trial) == len(rows) == 5
    assert not {id(f["x0"]) for f in trial} & {id(f["x0"]) for f in rows}
    alone = Calibrated(rows_of(graph, 1), "minmax")
    assert len(alone.trial(graph).feeds) == len(alone.rows(graph).feeds) == 1


def test_the_data_is_looked_at_once_for_all_observers() -> None:
    graph = network()
    calibrated = Calibrated(rows_of(graph, 8), "auto")
    found = calibrated.candidates(graph)
    seen = calibrated.calibration
    assert list(found) == ["auto", "minmax", "mse", "percentile"]
    calibrated.choose("minmax")
    assert calibrated.ranges(graph) == found["minmax"]
    assert calibrated.calibration is seen
    assert Calibrated(rows_of(graph, 8), "mse").candidates(graph) == {}


def test_the_ledger_tells_what_was_kept_and_what_was_not(tmp_path: Path) -> None:
    graph = network()
    rows = rows_of(graph, 32)
    found = {}
    for repair in ("off", "auto"):
        path = tmp_path / f"{repair}.tflite"
        compiled = compile_model(
            export_bytes(graph), "nnapi", path, precision="int8", calibrate=[dict(r) for r in rows], repair=repair
        )
        found[repair] = [e for e in compiled.report.ledger.entries if e.pass_name in (*BEFORE, *BEHIND)]
    assert found["off"] == []
    lines = [e.reason or e.rule for e in found["auto"]]
    assert {e.pass_name for e in found["auto"]} >= {"choose-ranges", "round-weights", "correct-bias"}
    assert all("dB" in line for line in lines)


def test_the_same_data_gives_the_same_weights() -> None:
    made = []
    for _ in range(2):
        graph = network()
        steps = Calibrated(rows_of(graph, 12), "minmax").steps(scheme())
        made.append(PassManager(steps).run(graph).graph.constants)
    assert all(np.array_equal(np.asarray(a.data), np.asarray(b.data)) for a, b in zip(*made, strict=True))


def test_the_passes_are_loaded_when_they_are_asked_for() -> None:
    program = "import sys, passes; print([m for m in sys.modules if 'repair' in m or 'round_weights' in m])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""The suite of INT8: rows, scores and tables."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import int8, int8_report, int8_rows, int8_score, peers
from benchmarks.commands import reason
from benchmarks.int8 import FLOAT
from benchmarks.measure import Cost
from benchmarks.results import Latency, Machine, Placed, Quality, Result, Rows, Session, parse, quality_from, write_line
from benchmarks.tflite_file import parts
from compiler.api import compile_model
from targets.tflite.target import TfLiteTarget

MACHINE = Machine("2026-01-02", "Linux", "Some CPU", 2, 8_000_000_000, "3.11.0", {"onnx": "1.0"}, 0.5, 20_000_000)
ROWS = Rows("machines", 128, 1000, True, {"x": [1, 4]}, {})
KWS = peers.ROOT / "examples" / "mlperf_tiny_kws_dscnn.onnx"
CATALOGUE = json.loads(int8_rows.CATALOGUE.read_text())


def result(model: str, tool: str, snr_db: float | None, *, size: int = 100, ratio: float | None = None) -> Result:
    placed = {"nnapi": Placed("int8", 9, 9, 1, {})}
    quality = None if snr_db is None else Quality(1000, snr_db, snr_db, 90.0, 91.0, placed)
    latency = None if ratio is None else Latency(10, 1.0, 1.0, ratio)
    error = "it failed" if snr_db is None else None
    cost = Cost(0, 1.5, 1.5, 30_000_000)
    return Result("int8", model, tool, [cost], 400, size, error=error, latency=latency, rows=ROWS, quality=quality)


def session(*results: Result) -> Session:
    return Session(MACHINE, {(r.suite, r.model, r.tool): r for r in results})


# Rows


def test_catalogue_names_inputs_of_the_models_it_is_about() -> None:
    for name, path in int8.models(int8.Folders(Path("none"), (), Path("none"))):
        entry = CATALOGUE["models"].get(name)
        if entry is not None:
            inputs = {i.name for i in int8_rows._inputs(path)}
            assert set(entry["inputs"]) == inputs, name
            assert set(entry.get("feedback", {})) < inputs, name


def test_every_set_of_the_catalogue_exists_and_its_steps_are_known() -> None:
    for entry in CATALOGUE["models"].values():
        for name, steps in entry.get("rows", ()):
            assert name in CATALOGUE["sets"]
            assert all(step[0] in int8_rows.STEPS for step in steps)


def test_rows_of_the_examples_are_parted_without_overlap(tmp_path: Path) -> None:
    rows = int8_rows.write_rows(KWS, tmp_path, int8.DATA)
    assert (rows.what, rows.calibrate, rows.held, rows.labelled) == ("commands-example", 68, 136, True)
    with np.load(tmp_path / "calibrate.npz") as a, np.load(tmp_path / "held.npz") as b:
        assert sorted(a) == ["input_1"] and sorted(b) == ["input_1", "labels"]
        seen = {row.tobytes() for row in a["input_1"]}
        assert a["input_1"].shape == (68, 49, 10, 1)
        assert not seen & {row.tobytes() for row in b["input_1"]}


def test_without_data_rows_are_random_and_say_so(tmp_path: Path) -> None:
    rows = int8_rows.write_rows(KWS, tmp_path, tmp_path)
    assert (rows.what, rows.labelled, rows.held) == ("random", False, int8_rows.RANDOM_HELD)
    with np.load(tmp_path / "calibrate.npz") as a, np.load(tmp_path / "held.npz") as b:
        assert abs(float(a["input_1"].std()) - 1) < 0.1
        assert not np.array_equal(a["input_1"][:4], b["input_1"])


def test_states_are_those_that_the_model_gave_before(tmp_path: Path) -> None:
    path = tmp_path / "sum.onnx"
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in ("x", "s", "t")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "s"], ["t"])], "g", ports[:2], ports[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    given = np.arange(6.0).reshape(3, 2)
    rows = int8_rows._with_states(path, "x", given, {"x": [1, 2], "s": [1, 2]}, {"s": "t"})
    assert rows["s"].tolist() == [[[0.0, 0.0]], [[0.0, 1.0]], [[2.0, 4.0]]]


@pytest.mark.parametrize(
    ("step", "rows", "expected"),
    [
        (["divide", 2, 4], np.array([[2.0, 4.0]]), [[1.0, 1.0]]),
        (["subtract", 1], np.array([3.0]), [2.0]),
        (["halve"], np.arange(16.0).reshape(1, 4, 4), [[[2.5, 4.5], [10.5, 12.5]]]),
        (["frames", 3, 2], np.arange(6.0), [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]),
        (["first", 1], np.array([[7, 8]]), [[7]]),
        (["magnitude"], np.array([[1.0, -1.0]]), [[0.0, 2.0]]),
    ],
)
def test_steps_of_preparation(step: list[object], rows: np.ndarray, expected: list[object]) -> None:
    assert int8_rows.prepared(rows, [step]).tolist() == expected


# Scores


def test_snr_is_that_of_the_sums_over_all_rows() -> None:
    reference = [np.array([3.0, 4.0]), np.array([0.0, 0.0])]
    assert int8_score.snr(reference, [np.array([3.0, 4.5]), np.array([0.0, 0.0])]) == pytest.approx(20.0)
    assert int8_score.snr(reference, reference) == int8_score.LARGEST_DB
    assert int8_score.snr(reference, [np.array([math.nan, 0.0]), reference[1]]) == -int8_score.LARGEST_DB
    assert int8_score.snr([np.zeros(2)], [np.ones(2)]) == -int8_score.LARGEST_DB


def test_top1_of_many_scores_and_of_one() -> None:
    many = [[np.array([[0.1, 0.9]])], [np.array([[0.8, 0.2]])], [np.array([[0.6, 0.4]])]]
    assert int8_score._top1(many, np.array([1, 0, 1])) == pytest.approx(66.67)
    assert int8_score._top1([[np.array([0.7])], [np.array([0.2])]], np.array([1, 1])) == 50.0


def test_integers_go_in_and_out_by_the_parameters_of_the_file() -> None:
    detail = {"dtype": np.int8, "quantization": (0.5, 3)}
    assert int8_score._stored(np.array([-100.0, 0.0, 1.0, 100.0]), detail).tolist() == [-128, 3, 5, 127]
    assert int8_score._meant(np.array([3, 5], np.int8), detail).tolist() == [0.0, 1.0]
    assert int8_score._meant(np.array([1.5]), {"quantization": (0.0, 0)}).tolist() == [1.5]


def test_our_own_file_scores_well_and_its_bytes_add_up(tmp_path: Path) -> None:
    int8_rows.write_rows(KWS, tmp_path, int8.DATA)
    target = TfLiteTarget("int8", calibrate=str(tmp_path / "calibrate.npz"), repair="off")
    path = tmp_path / "m.tflite"
    compile_model(KWS, target, path, inputs={"input_1": (1, 49, 10, 1)}, verify="off")
    with np.load(tmp_path / "held.npz") as held:
        arrays = dict(held)
    rows = [{"input_1": row[None]} for row in arrays["input_1"]]
    run = int8_score._onnx(KWS)
    found = int8_score.quality(path, rows, [run(row) for row in rows], arrays["labels"])
    assert found.error is None and found.snr_db is not None and found.snr_db > 15
    assert found.top1 is not None and found.top1_float is not None and abs(found.top1 - found.top1_float) < 2
    assert found.placed["nnapi"].on_device == found.placed["nnapi"].operators and not found.placed["nnapi"].errors
    assert sum(found.parts.values()) == path.stat().st_size
    assert found.parts["weights"] == parts(path)["weights"] == 22016
    assert quality_from(json.loads(json.dumps(asdict(found)))) == found


def test_a_file_that_does_not_run_is_a_result(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"nothing")
    found = int8_score.quality(path, [{}], [[np.zeros(1)]], None)
    assert found.error and found.snr_db is None


# Commands


def test_each_tool_has_an_environment_and_a_driver() -> None:
    for tool in int8.QUANTIZERS:
        assert tool.is_ours or tool.environment in peers.ENVIRONMENTS
        scripts = [part for attempt in tool.attempts for part in attempt if part.startswith("{here}")]
        assert all(Path(part.format(here=peers.HERE)).exists() for part in scripts)


def test_the_first_exception_of_a_chain_tells_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("start\nlib.QuantError: no kernel\n\nThe above exception ...\nRuntimeError: it failed\n")
    assert reason(log, Cost(1, 0.1, 0.1, 1), first=True) == "lib.QuantError: no kernel"
    assert reason(log, Cost(1, 0.1, 0.1, 1)) == "RuntimeError: it failed"


# Tables


def test_results_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_line(path, MACHINE)
    written = result("m", "cincel", 30.0, ratio=0.9)
    write_line(path, written)
    (read,) = parse(path.read_text().splitlines()).results.values()
    assert read == written


def test_standing_names_the_models_that_miss_a_bar() -> None:
    found = session(
        *(result(m, FLOAT, 100.0, size=100) for m in ("good", "bad")),
        result("good", "cincel", 30.0, size=27, ratio=0.9),
        result("good", "onnx2tf", 29.0, ratio=1.0),
        result("bad", "cincel", 20.0, size=28, ratio=1.2),
        result("bad", "ORT minmax", 21.0),
        result("bad", "onnx2tf", None),
        result("bad", "onnx2tf tf", 10.0, ratio=1.0),
    )
    lines = int8_report._standing(found).splitlines()
    assert "| SNR at least that of the best peer | 1 of 2 | bad |" in lines
    assert "| top-1 at most 0.5 points below floats | 0 of 2 | good, bad |" in lines
    assert "| size at most 0.27 x our file of floats | 1 of 2 | bad |" in lines
    assert "| latency at most 1.0 x that of onnx2tf's file | 1 of 2 | bad |" in lines
    text = int8_report.tables(found)
    assert "-1.0 (ORT minmax)" in text and "+1.0 (onnx2tf)" in text
    assert "- bad, onnx2tf: `it failed`" in text
    assert "all in 1" in text


def test_the_page_says_how_and_with_what() -> None:
    page = int8_report.page(session(result("m", FLOAT, 100.0), result("m", "cincel", 30.0)))
    assert page.startswith("# INT8 against other tools")
    assert all(f"- {tool.name}: " in page for tool in int8.QUANTIZERS)


def test_calibration_is_compared_where_both_ran() -> None:
    cost = Cost(0, 8.0, 8.0, 200_000_000)
    ours = Result("calibration", "minmax, 1000 rows", "cincel", [cost], 1, 0)
    peer = Result("calibration", "minmax, 1000 rows", "onnxruntime", [Cost(0, 10.0, 10.0, 10**9)], 1, 0)
    alone = Result("calibration", "auto, 1000 rows", "cincel", [Cost(0, 8.0, 8.0, 1_600_000_000)], 1, 0)
    text = int8_report.calibration(session(ours, peer, alone))
    assert "| minmax, 1000 rows | 8.0 s, 200 MB | 10.0 s, 1000 MB | 0.80 | yes |" in text
    assert "| auto, 1000 rows | 8.0 s, 1600 MB |  |  | **no** |" in text

"""The runner itself: crashes, hangs and wrong numbers are FAILs, clear errors are refusals, the baseline keeps all."""

from __future__ import annotations

import faulthandler
import os
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from compiler.errors import EmitError, LegalityError, OnnxError
from compiler.graph import Graph
from tests.conformance import baseline, workers
from tests.conformance.baseline import Baseline, Row
from tests.conformance.cases import Case, DataSet
from tests.conformance.stages import (
    ABSENT,
    FAIL,
    PASS,
    REFUSED,
    STAGES,
    Verdict,
    difference,
    executed,
    guarded,
    refusal,
    worst,
)
from tests.conformance.workers import Trial, run_cases

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # workers are small and start nothing
X = np.array([1.0, -2.0, 3.0], np.float32)


def case(op_type: str = "Relu", expected: object = None, name: str = "test_one") -> Case:
    """One node from three floats to three floats."""
    node = helper.make_node(op_type, ["x"], ["y"])
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in "xy"]
    graph = helper.make_graph([node], "one", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    wanted = np.maximum(X, 0) if expected is None else expected
    return Case("node", name, model, (DataSet({"x": X}, {"y": wanted}),), 1e-3, 1e-7)


def test_a_right_case_passes_every_stage() -> None:
    (outcome,) = run_cases([case()], jobs=1)
    assert outcome.verdicts == {stage: Verdict(PASS) for stage in STAGES}
    assert outcome.frozen == ()


def test_wrong_numbers_fail_every_stage() -> None:
    (outcome,) = run_cases([case(expected=np.array([1.0, 0.0, 3.1], np.float32))], jobs=1)
    assert {s: v.status for s, v in outcome.verdicts.items()} == {
        "import": FAIL,
        "original": ABSENT,
        "onnx": ABSENT,  # ONNX Runtime says the same of the case's own model
        "coreml": FAIL,
        "coreai": FAIL,
        "tflite": FAIL,
        "neon": FAIL,
        "metal": FAIL,
    }
    assert outcome.verdicts["import"].reason == "'y' has 1 of 3 wrong: 3.0 is not 3.0999999046325684 at [2]"


def test_an_unknown_operator_is_refused_everywhere() -> None:
    (outcome,) = run_cases([case("Bernoulli")], jobs=1)
    assert {v for s, v in outcome.verdicts.items() if s != "original"} == {
        Verdict(REFUSED, "Bernoulli: it draws random numbers")
    }


def test_a_crash_fails_one_stage_of_one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(case: Case, data: DataSet, stage: str, frozen: dict[str, np.ndarray], folder: Path) -> Verdict:
        if case.name == "test_two" and stage == "onnx":
            faulthandler.disable()
            os.abort()
        return executed(case, data, stage, frozen, folder)

    monkeypatch.setattr(workers, "executed", crash)
    outcomes = run_cases([case(), case(name="test_two"), case(name="test_three")], jobs=1)
    statuses = [[o.verdicts[s].status for s in STAGES] for o in outcomes]
    crashed = [FAIL if stage == "onnx" else PASS for stage in STAGES]
    assert statuses == [[PASS] * len(STAGES), crashed, [PASS] * len(STAGES)]
    assert "crash with exit code -6" in outcomes[1].verdicts["onnx"].reason


def test_a_hang_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "OTHERS", 0.5)
    monkeypatch.setattr(workers, "evaluated", lambda *_: time.sleep(60))
    (outcome,) = run_cases([case()], ["import", "original"], jobs=1)
    assert outcome.verdicts == {"import": Verdict(FAIL, "no result in time"), "original": Verdict(PASS)}


def test_shapes_are_frozen_and_said(tmp_path: Path) -> None:
    """An input that only defines a shape becomes a constant; the data stays an input."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [3]),
        helper.make_tensor_value_info("shape", TensorProto.INT64, [2]),
    ]
    graph = helper.make_graph([node], "one", ports, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    data = DataSet({"x": X, "shape": np.array([3, 1])}, {"y": X.reshape(3, 1)})
    trial = Trial(Case("node", "test_reshape", model, (data,), 1e-3, 1e-7), tmp_path)
    assert trial.frozen == ("shape",)
    assert [trial.result(stage).verdict for stage in STAGES] == [Verdict(PASS)] * len(STAGES)
    assert [v.name for v in trial.imports[0][0].inputs] == ["x"]


def raising(e: Exception) -> Verdict:
    def run() -> Verdict:
        raise e

    return guarded(run)


def test_errors_are_refusals_only_if_they_are_clear() -> None:
    assert raising(OnnxError("no such thing\n  more")) == Verdict(REFUSED, "no such thing")
    assert raising(EmitError("LiteRT does not run it")).status == FAIL
    verdict = raising(KeyError("x"))
    assert verdict.status == FAIL and verdict.reason.startswith("KeyError: 'x' at test_runner.py:")


def test_reasons_are_short() -> None:
    objections = "nnapi: 2 layers cannot run\n  %y : f32[3] = det(%x) -- no lowering\n  %z = abs(%y) -- needs more"
    assert refusal(LegalityError(objections)) == "det: no lowering"
    port = LegalityError("ane: 1 layer cannot run\n  input 'x' -- needs a rank of 1")
    assert refusal(port) == "input or output: needs a rank of 1"
    several = OnnxError('2 parts cannot be imported\n  the Foo node that computes "y": this operator is not supported')
    assert refusal(several) == "Foo: this operator is not supported"


def test_the_worst_verdict_counts() -> None:
    verdicts = [Verdict(PASS), Verdict(REFUSED, "r"), Verdict(FAIL, "f"), Verdict(ABSENT, "a")]
    assert worst(verdicts) == Verdict(FAIL, "f")
    assert worst([Verdict(PASS), Verdict(PASS)]) == Verdict(PASS)


@pytest.mark.parametrize(
    ("result", "right"),
    [
        (X, True),
        (X * np.float32(1.0005), True),
        (X * np.float32(1.01), False),
        (X.astype(np.float64), False),
        (X[:2], False),
        (np.array([1.0, np.nan, 3.0], np.float32), False),
    ],
)
def test_difference(result: np.ndarray, right: bool) -> None:
    assert (difference(result, X, 1e-3, 1e-7) is None) == right


def test_integers_are_compared_exactly() -> None:
    a = np.array([1, 2**40])
    assert difference(a, a.copy(), 1e-3, 1e-7) is None
    assert difference(a + 1, a, 1e-3, 1e-7) == "has 2 of 2 wrong: 2 is not 1 at [0]"


def row(status: str, reason: str = "", frozen: tuple[str, ...] = ()) -> Row:
    return Row(True, ("Relu",), {stage: Verdict(status, reason) for stage in STAGES}, frozen)


def test_the_baseline_reads_back(tmp_path: Path) -> None:
    rows = {
        "test_a": row(PASS),
        "test_b": row(REFUSED, "a reason of several words", ("axes", "shape")),
        "simple/test_c": Row(False, ("If", "Add"), {s: Verdict(ABSENT, f"reason of {s}") for s in STAGES}, ()),
    }
    stored = Baseline({"onnx": "1.23.2"}, rows)
    baseline.write(stored, tmp_path / "b.json")
    assert baseline.read(tmp_path / "b.json") == stored
    lines = (tmp_path / "b.json").read_text().splitlines()
    assert f'  "test_a": [1, "{"p" * len(STAGES)}", "", "Relu"],' in lines


def test_changes_are_told_apart() -> None:
    before = Baseline({}, {"a": row(PASS), "b": row(REFUSED, "old"), "c": row(REFUSED, "old"), "d": row(ABSENT, "old")})
    now = Baseline({}, {"a": row(REFUSED, "new"), "b": row(PASS), "c": row(REFUSED, "new"), "d": row(ABSENT, "new")})
    found = baseline.changes(before, now)
    assert found.regressions == [f"a {s}: pass -> refused (new)" for s in STAGES]
    assert found.improvements == [f"b {s}: refused (old) -> pass" for s in STAGES]
    assert found.others == [f"c {s}: refused (old) -> refused (new)" for s in STAGES]
    assert baseline.changes(before, before) == ([], [], [])
    failing = baseline.changes(before, Baseline({}, {"new": row(FAIL, "wrong")}))
    assert len(failing.regressions) == len(STAGES)
    frozen = baseline.changes(before, Baseline({}, {"a": row(PASS, frozen=("x",))}))
    assert frozen.regressions == ["a: freezes x, was nothing"]


def test_graphs_are_verified_before_they_are_evaluated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(_: Graph) -> None:
        raise AssertionError("not a graph")

    monkeypatch.setattr(Graph, "verify", broken)
    verdict = Trial(case(), tmp_path).result("import").verdict
    assert verdict.status == FAIL and "AssertionError: not a graph" in verdict.reason

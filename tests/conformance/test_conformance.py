"""The whole scoreboard: run, compared with the committed baseline, and held to its floors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import onnx
import pytest

from tests.conformance import baseline
from tests.conformance.baseline import Baseline, Row
from tests.conformance.cases import SETS, load_cases
from tests.conformance.disputed import DISPUTED
from tests.conformance.stages import ABSENT, FAIL, PASS, REFUSED, STAGES
from tests.conformance.stages import DISPUTED as JUDGED_OTHERWISE

pytestmark = pytest.mark.conformance
ROOT = Path(__file__).parents[2]
SECONDS = 1800

# Plain node cases that must pass, of 1,616; and cases of all node tensors that must be imported and evaluated right.
FLOORS = {
    "import": 1587,
    "original": 1362,
    "onnx": 1542,
    "coreml": 1530,
    "coreai": 1530,
    "tflite": 1570,
    "neon": 1570,
    "metal": 1570,
}
EVALUATED = 1780
BUILT = ("import", "neon", "metal")  # a C library, or a program, is compiled for each case
QUICK = tuple(stage for stage in STAGES if stage == "import" or stage not in BUILT)

# All reasons for which plain cases are not even imported.
REFUSED_AT_IMPORT = (
    "it draws random numbers",
    "dropout in training mode is random",
    "it decodes image files",
    "it processes text",
    "sequences of tensors are not supported",
    "^Scan before opset 9",
)


@pytest.fixture(scope="module")
def committed() -> Baseline:
    return baseline.read()


@pytest.fixture(scope="module", params=[QUICK, pytest.param(BUILT, marks=pytest.mark.slow)], ids=["quick", "built"])
def now(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Baseline:
    """All cases through some stages, in processes without the libraries that this one has loaded."""
    path = tmp_path_factory.mktemp("conformance") / "now.json"
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.conformance", "--output", str(path), "--stage", *request.param]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return baseline.read(path)


def plain_node_rows(of: Baseline) -> dict[str, Row]:
    """The cases in scope."""
    return {name: row for name, row in of.rows.items() if row.plain and "/" not in name}


def count(of: Baseline, stage: str, status: str) -> int:
    return sum(row.verdicts[stage].status == status for row in plain_node_rows(of).values())


def measured(of: Baseline) -> set[str]:
    """The stages that cases went through."""
    return set(next(iter(of.rows.values())).verdicts)


def test_nothing_got_worse(committed: Baseline, now: Baseline) -> None:
    found = baseline.changes(committed, now)
    assert found.regressions == []
    if found.improvements or found.others:
        print(f"{len(found.improvements)} passes won, {len(found.others)} other changes: make conformance UPDATE=1")  # noqa: T201 - a notice for whoever runs this alone


def test_no_case_fails(now: Baseline) -> None:
    """No wrong numbers, no crash, no unclear error: in any stage, of any set."""
    failed = {name: row.verdicts for name, row in now.rows.items() if FAIL in {v.status for v in row.verdicts.values()}}
    assert failed == {}


@pytest.mark.parametrize("stage", STAGES)
def test_as_many_cases_pass_as_promised(stage: str, now: Baseline) -> None:
    if stage not in measured(now):
        pytest.skip("measured in another run")
    assert count(now, stage, PASS) >= FLOORS[stage]


def test_narrow_types_are_evaluated_too(now: Baseline) -> None:
    assert sum(r.verdicts["import"].status == PASS for name, r in now.rows.items() if "/" not in name) >= EVALUATED


def test_what_onnx_runtime_runs_comes_back_as_onnx(now: Baseline) -> None:
    """But for what is out of scope, and one case of opset 8."""
    if "onnx" not in measured(now):
        pytest.skip("ONNX Runtime was not asked")
    lost = {
        name: row.verdicts["onnx"].reason
        for name, row in plain_node_rows(now).items()
        if row.verdicts["original"].status == PASS and row.verdicts["onnx"].status != PASS
    }
    assert [name for name, reason in lost.items() if "it processes text" not in reason] == ["test_scan_sum"]


def test_refusals_have_reasons(now: Baseline) -> None:
    for name, row in now.rows.items():
        for stage, verdict in row.verdicts.items():
            assert (len(verdict.reason) > 12) == (verdict.status in (REFUSED, ABSENT)), f"{name} {stage}: {verdict}"


def test_plain_cases_are_refused_at_import_for_known_reasons(now: Baseline) -> None:
    rows = {name: row for name, row in now.rows.items() if row.plain}
    reasons = {r.verdicts["import"].reason for r in rows.values() if r.verdicts["import"].status == REFUSED}
    assert [r for r in reasons if not any(re.search(known, r) for known in REFUSED_AT_IMPORT)] == []
    assert [known for known in REFUSED_AT_IMPORT if not any(re.search(known, r) for r in reasons)] == []


def test_disputed_cases_are_those_that_are_explained(now: Baseline) -> None:
    found = {n for n, row in now.rows.items() if JUDGED_OTHERWISE in {v.status for v in row.verdicts.values()}}
    assert found == set(DISPUTED) if "tflite" in measured(now) else found <= set(DISPUTED)


def test_the_baseline_is_of_this_suite(committed: Baseline) -> None:
    if onnx.__version__ != committed.versions["onnx"]:
        pytest.skip(f"the baseline is of onnx {committed.versions['onnx']}")
    assert set(committed.rows) == {case.key for case in load_cases()}
    assert {name for name, row in committed.rows.items() if row.plain} == {c.key for c in load_cases() if c.is_plain}


def test_scope() -> None:
    """As many cases as there are in onnx 1.23; a newer one has more."""
    node = [case for case in load_cases() if case.suite == "node"]
    plain = [case for case in node if case.is_plain]
    assert len(node) >= 1884 and len(plain) >= 1616
    assert len({op for case in plain for op in case.op_types}) >= 183
    sizes = Counter(case.suite for case in load_cases())
    assert set(sizes) == set(SETS) and sizes["light"] == 9 and min(sizes.values()) >= 9

"""The committed outcomes: written, read, and compared with a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.conformance.stages import ABSENT, DISPUTED, FAIL, PASS, REFUSED, STAGES, Verdict
from tests.conformance.workers import Outcome

PATH = Path(__file__).with_name("baseline.json")
LETTERS = {PASS: "p", DISPUTED: "d", ABSENT: "n", REFUSED: "r", FAIL: "F"}
STATUSES = {letter: status for status, letter in LETTERS.items()}
MEASURED_WITH = ("onnx", "onnxruntime", "ai-edge-litert", "coremltools", "coreai-core", "numpy")


class Row(NamedTuple):
    """The outcome of a case as it is stored."""

    plain: bool
    ops: tuple[str, ...]
    verdicts: dict[str, Verdict]
    frozen: tuple[str, ...]


UNKNOWN = Verdict(ABSENT, "not in the baseline")
NEW = Row(True, (), {}, ())


class Baseline(NamedTuple):
    """All stored outcomes by case, and the versions of what they were measured with."""

    versions: dict[str, str]
    rows: dict[str, Row]


class Changes(NamedTuple):
    """A run against the baseline: one line for each case and stage that differs."""

    regressions: list[str]
    improvements: list[str]
    others: list[str]


def measured(outcomes: Iterable[Outcome]) -> Baseline:
    """What a run would store."""
    rows = {o.case.key: Row(o.case.is_plain, tuple(o.case.op_types), o.verdicts, o.frozen) for o in outcomes}
    return Baseline({name: version(name) for name in MEASURED_WITH}, rows)


def key(reason: str) -> str:
    """Stays as it is while other reasons come and go, so that differences of the file stay small."""
    return hashlib.sha256(reason.encode()).hexdigest()[:6]


def write(baseline: Baseline, path: Path = PATH) -> None:
    """One line for each case: 1 if it is plain, a letter per stage, keys of reasons, operators, frozen inputs."""
    reasons: dict[str, str] = {}
    lines = []
    stages = [stage for stage in STAGES if all(stage in row.verdicts for row in baseline.rows.values())]
    for name, (plain, ops, verdicts, frozen) in sorted(baseline.rows.items()):
        letters = "".join(LETTERS[verdicts[stage].status] for stage in stages)
        said = [verdicts[stage].reason for stage in stages if verdicts[stage].reason]
        for reason in said:
            assert reasons.setdefault(key(reason), reason) == reason
        cells = [letters, " ".join(map(key, said)), " ".join(ops), " ".join(frozen)]
        while not cells[-1]:
            cells.pop()
        lines.append(f"  {json.dumps(name)}: {json.dumps([int(plain), *cells])}")
    head = {"versions": baseline.versions, "stages": stages, "reasons": dict(sorted(reasons.items()))}
    text = json.dumps(head, indent=1, ensure_ascii=False)[:-2]
    path.write_text(f'{text},\n "cases": {{\n' + ",\n".join(lines) + "\n }\n}\n", encoding="utf-8")


def read(path: Path = PATH) -> Baseline:
    """The stored outcomes."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    reasons, stages = stored["reasons"], stored["stages"]
    rows = {}
    for name, (plain, *cells) in stored["cases"].items():
        letters, keys, ops, frozen = (*cells, "", "", "")[:4]
        left = iter(keys.split())
        verdicts = {
            stage: Verdict(STATUSES[letter], "" if letter in "pd" else reasons[next(left)])
            for stage, letter in zip(stages, letters, strict=True)
        }
        rows[name] = Row(bool(plain), tuple(ops.split()), verdicts, tuple(frozen.split()))
    return Baseline(stored["versions"], rows)


def changes(before: Baseline, now: Baseline) -> Changes:
    """Regressions are passes lost, new FAILs and inputs newly frozen; improvements are passes won; others are refusals
    for another reason."""
    found = Changes([], [], [])
    for name, row in now.rows.items():
        known = before.rows.get(name, NEW)
        for stage, verdict in row.verdicts.items():
            _compare(f"{name} {stage}", known.verdicts.get(stage, UNKNOWN), verdict, found)
        if known is not NEW and set(row.frozen) - set(known.frozen) and known.verdicts["import"].status != REFUSED:
            frozen = [", ".join(r.frozen) or "nothing" for r in (row, known)]
            found.regressions.append(f"{name}: freezes {frozen[0]}, was {frozen[1]}")
    return found


def _compare(where: str, then: Verdict, now: Verdict, found: Changes) -> None:
    if then.status == now.status and (then.reason == now.reason or now.status == ABSENT):
        return
    line = f"{where}: {_told(then)} -> {_told(now)}"
    if now.status == FAIL != then.status or (then.status in (PASS, DISPUTED) and now.status not in (PASS, DISPUTED)):
        found.regressions.append(line)
    elif now.status == PASS:
        found.improvements.append(line)
    else:
        found.others.append(line)


def _told(verdict: Verdict) -> str:
    return f"{verdict.status} ({verdict.reason})" if verdict.reason else verdict.status

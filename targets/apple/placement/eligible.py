"""What may run where, and by which rule: the first of the two questions that can be answered off the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from targets.apple import engine
from targets.apple.engine import FAMILY_ORDER
from targets.apple.placement.conditions import holds
from targets.apple.placement.operation import Operation

ANE, GPU, CPU = "ane", "gpu", "cpu"
INFERRED = "inferred"


class Rule(NamedTuple):
    """A rule that decides, or something to know. `fix` names a substitution of the data, `instead` says what it is, and
    `pass_name` is our pass that does it, if one does: of its own accord or `on_request`."""

    name: str
    says: str
    source: str
    confidence: str
    fix: str = ""
    instead: str = ""
    pass_name: str = ""
    on_request: bool = False

    def as_json(self) -> dict[str, Any]:
        return self._asdict()


class Verdict(NamedTuple):
    """The engines that may run an operation, the rule behind the answer for the Neural Engine, and remarks."""

    ane: bool
    gpu: bool
    rule: Rule
    remarks: tuple[Rule, ...] = ()

    @property
    def units(self) -> tuple[str, ...]:
        return (*((ANE,) if self.ane else ()), *((GPU,) if self.gpu else ()), CPU)


def judge(op: Operation, family: str) -> Verdict:
    """Where an operation may run, with an engine of this family."""
    data = engine.load("operations")
    entry = data["operations"].get(op.kind, {})
    answer, inferred = _answer(entry, family)
    known = data["answers"][answer]
    if answer == "unknown" and entry:
        known = {**known, "source": engine.family_source(family)}
    fix = _first(entry) if known.get("fix") else ""
    rule = _rule(op.kind, {**known, "fix": fix}, entry, known.get("confidence") or inferred, family)
    gpu = _gpu(entry)
    if not known["eligible"]:
        return Verdict(False, gpu, rule)
    remarks = [rule] if known.get("remark") else []
    for name, condition in _conditions(op, entry, data["general"]):
        if holds(condition, op, family):
            found = _rule(name, condition, {**entry, **_limit_source(condition, family)}, inferred, family)
            if condition.get("effect") != "remark":
                return Verdict(False, gpu, found, tuple(remarks))
            remarks.append(found)
    return Verdict(True, gpu, rule, tuple(remarks))


def _answer(entry: Mapping[str, Any], family: str) -> tuple[str, str]:
    """The word of the data for a family, and "inferred" where it was said of an older one."""
    by_family = entry.get("ane_by_family", {})
    at = engine.older(by_family, family)
    return ("unknown", INFERRED) if at is None else (by_family[at], "" if at == family else INFERRED)


def _gpu(entry: Mapping[str, Any]) -> bool:
    """What was not measured counts as no."""
    measured = entry.get("plan_m4")
    return isinstance(measured, dict) and bool(measured["gpu"])


def _conditions(
    op: Operation, entry: Mapping[str, Any], general: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Those of the operation before those of all; `types` of an entry are not refused by a general one."""
    for condition in entry.get("conditions", ()):
        yield f"{op.kind}: {condition.get('limit') or condition['test']}", condition
    for name, condition in general.items():
        if "types" not in condition or not set(condition["types"]) & set(entry.get("types", ())):
            yield name, condition


def _limit_source(condition: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Where a limit comes from, which is a better source than that of the operation."""
    if "limit" not in condition:
        return {}
    entry = engine.load("limits")["limits"][condition["limit"]]
    by_family = entry.get("max_by_family", {family: 0})
    older = engine.older(by_family, family) != family
    return {"source": entry["source"], "confidence": INFERRED if older else entry["confidence"]}


def _rule(name: str, told: Mapping[str, Any], entry: Mapping[str, Any], inferred: str, family: str) -> Rule:
    fix = told.get("fix") or ""
    instead = engine.load("substitutions")["substitutions"].get(fix, {}).get("with", "")
    source = told.get("source") or entry.get("source") or "nothing is published"
    confidence = inferred or told.get("confidence") or entry.get("confidence") or INFERRED
    return Rule(name, told["says"], source, confidence, fix, instead, *_pass(fix, family))


def _pass(fix: str, family: str) -> tuple[str, bool]:
    """Our pass that makes a substitution for a family, and whether it has to be asked for; "" if there is none."""
    at = FAMILY_ORDER.index(family)
    for entry in engine.load("substitutions")["passes"]:
        first, last = entry.get("since", FAMILY_ORDER[0]), entry.get("until", FAMILY_ORDER[-1])
        known = fix in (entry["of"], *entry.get("also", ()))
        if known and FAMILY_ORDER.index(first) <= at <= FAMILY_ORDER.index(last):
            return entry["pass"], entry.get("on_request", False)
    return "", False


def _first(entry: Mapping[str, Any]) -> str:
    found = entry.get("substitutions", ())
    return found[0] if found else ""

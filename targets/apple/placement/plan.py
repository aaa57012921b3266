"""A compute plan dumped on a Mac, read back, and how the prediction compares with it operation by operation.

docs/placement.md says how to make the file and what is in it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from compiler.errors import UsageError
from targets.apple.placement.eligible import ANE, CPU, GPU
from targets.apple.placement.predict import Placed, Prediction

FORMAT = "compute-plan"
VERSION = 1
UNITS = (ANE, GPU, CPU)
OPSET = re.compile(r"^ios\d+\.")  # Core ML puts the operation set before the name of an operation
HINT = "docs/compute_plan.py makes it from a package on a Mac"
Entry = Mapping[str, Any]


class Planned(NamedTuple):
    """What a device plans for one operation. `supported` is empty and `cost` None where the plan does not say."""

    operator: str
    output: str
    preferred: str
    supported: tuple[str, ...]
    cost: float | None


class Plan(NamedTuple):
    """All that it says, by operator and output."""

    device: str
    system: str
    units: str
    operations: Mapping[tuple[str, str], Planned]


class Mismatch(NamedTuple):
    """An operation that is planned for another processor than predicted."""

    placed: Placed
    planned: Planned

    def as_json(self) -> dict[str, Any]:
        op = self.placed.operation
        told = {"operator": op.kind, "output": op.name, "layer": op.layer, "predicted": self.placed.selected}
        return {**told, "planned": self.planned.preferred, "cost": self.planned.cost}


class Score(NamedTuple):
    """How right the prediction is. `confusion` counts (predicted, planned) processors; `eligible_right` of
    `eligible_known` operations have the engine among the supported ones as the rules say."""

    plan: Plan
    matched: int
    right: int
    right_by_cost: float | None
    confusion: Mapping[tuple[str, str], int]
    eligible_right: int
    eligible_known: int
    mismatches: tuple[Mismatch, ...]
    ineligible: tuple[Mismatch, ...]
    unplanned: tuple[str, ...]
    unpredicted: tuple[str, ...]

    @property
    def right_by_operations(self) -> float:
        return self.right / self.matched if self.matched else 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "device": self.plan.device,
            "system": self.plan.system,
            "units": self.plan.units,
            "matched": self.matched,
            "right": self.right,
            "right_by_operations": round(self.right_by_operations, 6),
            "right_by_cost": None if self.right_by_cost is None else round(self.right_by_cost, 6),
            "confusion": [{"predicted": a, "planned": b, "operations": n} for (a, b), n in self.confusion.items()],
            "eligible_right": self.eligible_right,
            "eligible_known": self.eligible_known,
            "mismatches": [m.as_json() for m in self.mismatches],
            "eligibility_mismatches": [m.as_json() for m in self.ineligible],
            "not_in_plan": list(self.unplanned),
            "not_predicted": list(self.unpredicted),
        }


def read_plan(path: str) -> Plan:
    """The plan in a file. UsageError that says what is wrong with it."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"--compute-plan {path!r} cannot be read: {(e.strerror or str(e)).lower()}") from None
    except (ValueError, RecursionError):
        raise UsageError(f"--compute-plan {path!r} is no JSON file", hint=HINT) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UsageError(f"--compute-plan {path!r} is no compute plan: it has no format {FORMAT!r}", hint=HINT)
    if content.get("version") != VERSION:
        found = content.get("version")
        raise UsageError(f"--compute-plan {path!r} has version {found!r}, and {VERSION} is known", hint=HINT)
    entries = content.get("operations")
    if not isinstance(entries, list):
        raise UsageError(f"--compute-plan {path!r} has no list of operations", hint=HINT)
    planned = [p for number, entry in enumerate(entries) if (p := _planned(path, number, entry)) is not None]
    device, system, units = (str(content.get(name, "")) for name in ("device", "system", "units"))
    return Plan(device, system, units, {(p.operator, p.output): p for p in planned})


def _planned(path: str, number: int, entry: object) -> Planned | None:
    """One operation; None for a constant, which has no processor."""
    where = f"--compute-plan {path!r}: operation {number}"
    if not isinstance(entry, dict):
        raise UsageError(f"{where} is no object", hint=HINT)
    operator, outputs = entry.get("operator"), entry.get("outputs")
    if not isinstance(operator, str) or not isinstance(outputs, list) or not all(isinstance(o, str) for o in outputs):
        raise UsageError(f"{where} needs an operator and a list of outputs", hint=HINT)
    preferred, supported = entry.get("preferred"), entry.get("supported") or []
    if preferred is None or not outputs:
        return None
    if not isinstance(supported, list):
        raise UsageError(f"{where} has no list of supported processors", hint=HINT)
    for unit in (preferred, *supported):
        if unit not in UNITS:
            raise UsageError(f"{where} has the processor {unit!r}", hint=f"known are {', '.join(UNITS)}")
    cost = entry.get("cost")
    if cost is not None and (isinstance(cost, bool) or not isinstance(cost, (int, float)) or not 0 <= cost < 1e9):
        raise UsageError(f"{where} has the cost {cost!r}, which is no number from 0 on", hint=HINT)
    return Planned(OPSET.sub("", operator), outputs[0], preferred, tuple(supported), cost)


def score(prediction: Prediction, plan: Plan) -> Score:
    """The prediction against a plan, matched by operator and name of the first output."""
    known = {(p.operation.kind, p.operation.name): p for p in prediction.placed}
    pairs = [Mismatch(p, plan.operations[key]) for key, p in known.items() if key in plan.operations]
    right = [m for m in pairs if m.placed.selected == m.planned.preferred]
    costs = [m.planned.cost for m in pairs]
    total = sum(c for c in costs if c is not None)
    won = sum(m.planned.cost or 0.0 for m in right)
    told = [m for m in pairs if m.planned.supported]
    differs = [m for m in told if m.placed.verdict.ane != (ANE in m.planned.supported)]
    return Score(
        plan,
        len(pairs),
        len(right),
        won / total if total else None,
        dict(sorted(Counter((m.placed.selected, m.planned.preferred) for m in pairs).items())),
        len(told) - len(differs),
        len(told),
        tuple(m for m in pairs if m.placed.selected != m.planned.preferred),
        tuple(differs),
        tuple(f"{kind} {name}" for kind, name in known if (kind, name) not in plan.operations),
        tuple(f"{kind} {name}" for kind, name in plan.operations if (kind, name) not in known),
    )

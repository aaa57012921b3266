"""The passes that put other layers in the place of those that a device does not compute in integers.

`check/substitutions.json` says which builtin operator, or which condition on one, each pass avoids; the rules of the
device say whether it has them, and from which level on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from compiler.errors import UsageError
from compiler.pass_base import Step, pass_class
from targets.tflite.check.rules import Rules, device_rules
from targets.tflite.int8_rules import builtins

Entry = Mapping[str, Any]  # Any: what JSON holds
PATH = Path(__file__).parent / "check" / "substitutions.json"
INTEGERS = "INT8"
NEWEST = 99  # a level above all


def checked_level(device: str, level: int | None) -> int | None:
    """The level, if there is one. UsageError for a level that the rules do not know."""
    if level is None:
        return None
    known = [entry["level"] for entry in device_rules(device)["levels"]]
    if level in known:
        return level
    raise UsageError(f"{device} has no feature level {level}", hint=f"choose one of {min(known)} to {max(known)}")


def substitutions(device: str, level: int = NEWEST, early: bool = False) -> tuple[Step, ...]:
    """Those for a device of a level (a feature level of NNAPI, a runtime of the Edge TPU), each once; `early` are those
    of layers that would be decomposed."""
    rules = device_rules(device)
    found: dict[str, Step] = {}
    for entry in entries():
        name = entry["pass"]
        if early is ("before" in entry) and name not in found and (options := _asked(entry, rules, level)) is not None:
            cls = pass_class(name)
            assert cls is not None
            array = rules.get("array", {}).get("width") if "array" in cls.fields else None
            found[name] = cls(**options, **({"array": array} if array else {}))
    return tuple(found.values())


@cache
def entries() -> tuple[Entry, ...]:
    """What the data file says, in its order."""
    read: list[Entry] = json.loads(PATH.read_text(encoding="utf-8"))["layers"]
    return tuple(read)


def _asked(entry: Entry, rules: Rules, level: int) -> Entry | None:
    """The options of the pass if the device does not take the builtin in integers, or takes it without what the
    condition is about; None if it takes both."""
    code = entry["builtin"]
    rule = rules["operators"].get(code, {})
    if rule.get("types", {}).get(INTEGERS, inf) > level or _too_new(code, rule, rules):
        return {} if "condition" not in entry else None
    if "condition" not in entry:
        return None
    for condition in _conditions(rule, entry["condition"], level):
        return {option: condition[field] for option, field in entry.get("options", {}).items()}
    return None


def _too_new(code: str, rule: Rules, rules: Rules) -> bool:
    """Whether the version that takes integers is above the last that the device knows."""
    if not rules.get("versions", {}).get("binding", True) or code not in builtins():
        return False
    version: int = builtins()[code].version
    return version > rule.get("version", version)


def _conditions(rule: Rules, test: str, level: int) -> Iterator[Entry]:
    """Those of an operator that refuse what a test finds, at a level."""
    return (c for c in rule.get("conditions", ()) if c["test"] == test and c.get("level", inf) > level)

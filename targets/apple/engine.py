"""Chips, their engine families, and what each family runs, from the data files beside this module.

Every fact there names its source and how sure it is: documented, measured-by-third-party or inferred.

chips.json          by chip: engine family, GPU family, rates and bandwidths
families.json       engine families and the systems that Core ML programs are written for
operations.json     by operation of a Core ML program: on which families it can run, and under which conditions
limits.json         sizes beyond which a family refuses
rules.json          layouts, numerics, behaviour of the runtime, compression
costs.json          what the choice between processors goes by, estimates of operations, and measured rates
substitutions.json  rewrites for what does not run
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from compiler.errors import UsageError

OLDEST = "A14"  # the first chip of the oldest family whose operations were measured
FAMILY_ORDER = ("H11", "H12", "H13", "H14", "H15", "H16", "H17", "H18", "H18g", "H19")
Facts = Mapping[str, Any]  # Any: what JSON holds


class Chip(NamedTuple):
    """A chip by the name that it is sold under; `facts` by key, each with value, unit, source and confidence."""

    name: str
    family: str
    facts: Facts

    def fact(self, key: str, default: float | None = None) -> Any:  # Any: as in the data
        """The value of a fact; `default` where it is not known."""
        entry = self.facts.get(key)
        return default if entry is None or entry["value"] is None else entry["value"]


@cache
def load(name: str) -> Facts:
    """One of the data files."""
    content: Facts = json.loads(Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8"))
    return content


@cache
def chips() -> Mapping[str, Chip]:
    """Every chip with an engine that Core ML reaches, by name, older families first."""
    known = load("chips")["chips"]
    return {
        name: Chip(name, family["id"], known.get(name, {}).get("facts", {}))
        for family in load("families")["families"]
        for name in family["chips"]
    }


def chip(name: str = OLDEST) -> Chip:
    """The chip of a name, in any case of letters, "M1 Max" or "m1-max". Raises UsageError that lists the known ones."""
    wanted = _plain(name)
    for known in chips().values():
        if _plain(known.name) == wanted:
            return known
    raise UsageError(f"there is no chip {name!r}", hint=f"choose one of {', '.join(chips())}")


def limit(name: str, family: str) -> int | None:
    """The largest size that a family takes, the value of an older family where its own is not known; None: no limit."""
    entry = load("limits")["limits"][name]
    for key in ("max_by_family", "value_by_family", "compiler_table_max"):
        if key in entry:
            return _of_family(entry[key], family)
    value = entry.get("max", entry.get("value"))
    return None if value is None else int(value)


def runs(operation: str, family: str) -> str:
    """Whether a family runs an operation of a Core ML program: a key of the data's `about`; "no" for unknown ones."""
    entry = load("operations")["operations"].get(operation, {}).get("ane_by_family", {})
    return _of_family(entry, family) or "no"


def family_source(family: str) -> str:
    """Where what is known of a family is from."""
    found: str = next(entry["source"] for entry in load("families")["families"] if entry["id"] == family)
    return found


def older(by_family: Mapping[str, Any], family: str) -> str | None:
    """The newest family with an entry that is not newer than this one; None if there is none."""
    at = FAMILY_ORDER.index(family)
    found = [f for f in FAMILY_ORDER[: at + 1] if f in by_family]
    return found[-1] if found else None


def _of_family(by_family: Mapping[str, Any], family: str) -> Any:  # Any: as in the data
    at = older(by_family, family)
    return None if at is None else by_family[at]


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())

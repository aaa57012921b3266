"""Rewrites of what the engine does not run, for a chip.

`substitutions.json` says which pass stands for which substitution, and what it avoids: operations of a Core ML program
that `operations.json` does not give to a family, or sizes beyond those of `limits.json`. A family that runs the
original does not get the pass. Passes that compute another function, or the same one with larger errors in 16-bit
floats, run where somebody asks for them by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import passes  # noqa: F401  # registers the passes
from compiler.errors import UsageError
from compiler.pass_base import Pass, Step, pass_class
from targets.apple.engine import FAMILY_ORDER, Chip, Facts, limit, load, runs

RUN = frozenset(("yes", "yes_unmeasured_in_coreml", "yes_with_width_offset_clamp"))
ALL = "all"


def steps(chip: Chip, approximate: Sequence[str] = ()) -> tuple[Step, ...]:
    """The passes, with the chip's limits; those that approximate if they are named, or all of them are."""
    found = []
    for entry in entries():
        if entry.get("on_request") and not {ALL, entry["pass"]} & set(approximate):
            continue
        options = _options(entry, chip.family)
        if options is not None:
            found.append(pass_of(entry)(**options))
    return tuple(found)


def entries() -> Sequence[Facts]:
    """What the data file says of passes, in the order in which they run."""
    listed: Sequence[Facts] = load("substitutions")["passes"]
    return listed


def pass_of(entry: Facts) -> type[Pass]:
    """The class of an entry's pass."""
    cls = pass_class(entry["pass"])
    assert cls is not None, f"there is no pass {entry['pass']}"
    return cls


def asked(names: str) -> tuple[str, ...]:
    """The approximations that a text like "substitute-sin,substitute-mod" or "all" names. UsageError for unknown
    ones."""
    known = [entry["pass"] for entry in entries() if entry.get("on_request")]
    found = tuple(name.strip() for name in names.split(",") if name.strip())
    for name in found:
        if name not in (*known, ALL):
            raise UsageError(f"there is no approximation {name!r}", hint=f"choose {ALL} or some of {', '.join(known)}")
    return found


def _options(entry: Facts, family: str) -> dict[str, Any] | None:  # Any: fields of passes
    """The options of a pass for a family; None if it runs all that the pass avoids."""
    at = FAMILY_ORDER.index(family)
    first, last = entry.get("since", FAMILY_ORDER[0]), entry.get("until", FAMILY_ORDER[-1])
    if not FAMILY_ORDER.index(first) <= at <= FAMILY_ORDER.index(last):
        return None
    options = {field: tuple(v) if isinstance(v, list) else v for field, v in entry.get("values", {}).items()}
    if "avoids" in entry:
        missing = {layer for op, layer in entry["avoids"].items() if runs(op, family) not in RUN}
        if not missing:
            return None
        if "layers" in pass_of(entry).fields:
            options["layers"] = tuple(sorted(missing))
    for field, name in entry.get("limits", {}).items():
        if (most := limit(name, family)) is not None:
            options[field] = most
    for field, places in entry.get("among", {}).items():
        options[field] = tuple(sorted(set(_united(places))))
    return options


def _united(places: Sequence[str]) -> Iterator[int]:
    """The numbers in some lists of limits.json, named limit.key."""
    for place in places:
        name, _, key = place.partition(".")
        yield from load("limits")["limits"][name][key]

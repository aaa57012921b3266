"""Renders docs/placement-rules.md from the data files in targets/apple."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from targets.apple import engine
from targets.apple.placement.conditions import TOLD

MARKS = {
    "yes": "yes",
    "no": "-",
    "unverified": "?",
    "yes_unmeasured_in_coreml": "(yes)",
    "software_route": "slow",
    "avoid": "harms",
    "yes_with_width_offset_clamp": "yes, clamps",
}
INTRODUCTION = """\
# What the Neural Engine runs

The rules of the [placement report](placement.md): operations of a Core ML program by engine family.

| mark | meaning |
| --- | --- |
| yes | it runs; "clamps": see the conditions |
| (yes) | the engine's compiler takes it; that Core ML does was not measured |
| slow | it runs by an emulation with other rounding |
| harms | Core ML puts it on the engine, where it was measured to be slower than on the CPU |
| ? | not verified for this family, which counts as no |
| - | it does not run |

A family without a column takes the answers of the nearest older one, which are `inferred` then; H11 and H12 (A12, A13)
have none. Nothing here was measured by this project. A number names the source below, the word behind it how sure
it is.
"""
Facts = Mapping[str, Any]


def page() -> str:
    """The whole page."""
    data = engine.load("operations")
    sources: dict[str, int] = {}
    chips = _table(("family", "chips", "source"), _chips(sources))
    general = [f"- **{name}**: {_condition(c, sources)}" for name, c in data["general"].items()]
    rows = [_row(name, entry, sources) for name, entry in sorted(data["operations"].items())]
    head = ("operation", *_families(), "GPU (M4)", "conditions", "source")
    sections = {
        "Families": chips,
        "Every operation": general,
        "By operation": _table(head, rows),
        "Sizes": _limits(sources),
        "Sources": [f"{number}. {_linked(source)}" for source, number in sources.items()],
    }
    lines = [INTRODUCTION]
    for title, content in sections.items():
        lines += [f"## {title}", "", *content, ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ("---",) * len(head), *rows)]


def _families() -> list[str]:
    """Those that rows speak of."""
    told = Counter(f for e in engine.load("operations")["operations"].values() for f in e.get("ane_by_family", ()))
    return [f for f in engine.FAMILY_ORDER if told[f]]


def _chips(sources: dict[str, int]) -> list[tuple[str, ...]]:
    families = engine.load("families")["families"]
    return [(f["id"], ", ".join(f["chips"]), _told(f, sources)) for f in families]


def _row(name: str, entry: Facts, sources: dict[str, int]) -> tuple[str, ...]:
    by_family = entry.get("ane_by_family", {})
    marks = [MARKS[by_family[f]] if f in by_family else "-" for f in _families()]
    measured = entry.get("plan_m4")
    gpu = ("yes" if measured["gpu"] else "-") if isinstance(measured, dict) else "?"
    conditions = "; ".join(_condition(c, sources) for c in entry.get("conditions", ()))
    return (f"`{name}`", *marks, gpu, conditions, _told(entry, sources))


def _condition(condition: Facts, sources: dict[str, int]) -> str:
    """What it says, its bounds, and the substitution."""
    bounds = {k: v for k, v in condition.items() if k not in (*TOLD, "test", "measure", "operand", "limit")}
    told = condition["says"] + "".join(f" ({k} {_plain(v)})" for k, v in bounds.items())
    told += f" (limit `{condition['limit']}`)" if "limit" in condition else ""
    told += f" (on {', '.join(condition['families'])})" if "families" in condition else ""
    told += f"; instead: `{condition['fix']}`" if "fix" in condition else ""
    remark = "runs, but " if condition.get("effect") == "remark" else ""
    source = f" [{_told(condition, sources)}]" if "source" in condition else ""
    return f"{remark}{told}{source}"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _limits(sources: dict[str, int]) -> list[str]:
    """Those that conditions name."""
    data = engine.load("operations")
    every = [*data["general"].values(), *(c for e in data["operations"].values() for c in e.get("conditions", ()))]
    used = dict.fromkeys(c["limit"] for c in every if "limit" in c)
    limits = engine.load("limits")["limits"]
    families = [f for f in engine.FAMILY_ORDER if f not in ("H11", "H12")]
    rows = []
    for name in used:
        values = [str(engine.limit(name, f)) for f in families]
        rows.append((f"`{name}`", limits[name]["what"], *values, _told(limits[name], sources)))
    return _table(("limit", "of", *families, "source"), rows)


def _told(entry: Facts, sources: dict[str, int]) -> str:
    """The number of a source, and its confidence."""
    number = sources.setdefault(entry["source"], len(sources) + 1)
    return f"{number}, {entry['confidence']}"


def _linked(source: str) -> str:
    return f"<{source}>" if source.startswith("https://") and " " not in source else f"`{source}`"

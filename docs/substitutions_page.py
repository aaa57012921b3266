"""The page of what stands in for what Apple's Neural Engine does not run, from the data and the passes."""

from __future__ import annotations

import sys

from compiler.pass_base import ErrorClass
from targets.apple.engine import Facts, chips, load
from targets.apple.legal import entries, pass_of, steps

HEAD = """# Substitutions for the Neural Engine

What an engine family does not run becomes what it runs. `targets/apple/operations.json` and `limits.json` say what
runs where, with source and confidence; `targets/apple/substitutions.json` says what stands in for it. Nothing here was
measured on a device by this project. Rewrites that are exact in real arithmetic run by default, where the data says
that the family of `--chip` does not run the original; approximations, and what costs much without a need for it, run
when they are asked for: `--approximate substitute-sin,substitute-mod`, or `--approximate all`.

## Passes

Each has a property-based test of equivalence, or of its bound, in `tests/passes/test_NAME.py`.
"""
FAMILIES = {
    "A14": "A14, M1",
    "A15": "A15, M2",
    "A16": "A16, M3",
    "A17 Pro": "A17 Pro, M4",
    "A18": "A18, M5",
    "M6": "M6",
}
BETWEEN = """
## All substitutions

Rows without a pass are done elsewhere (by the decompositions of `docs/passes/decompose.md`, by the passes that move
regions or rescale for 16-bit floats), stay with the CPU, or are left to whoever writes the model.
"""


def page() -> str:
    """Two tables: the passes with the chips that get them, and all that is known of substitutions with its source."""
    lines = [HEAD, "| pass | instead of | exactness | on request | chips |", "| --- | --- | --- | --- | --- |"]
    lines += [_pass_row(name) for name in dict.fromkeys(entry["pass"] for entry in entries())]
    lines += [
        BETWEEN,
        "| substitution | replaces | with | exact | pass | source (confidence) |",
        "| --- |" + " --- |" * 5,
    ]
    facts = load("substitutions")["substitutions"]
    lines += [_fact_row(name, fact) for name, fact in facts.items()]
    return "\n".join(lines) + "\n"


def _link(name: str) -> str:
    return f"[{name}](../passes/{name.replace('-', '_')}.md)"


def _pass_row(name: str) -> str:
    of = [entry for entry in entries() if entry["pass"] == name]
    facts = load("substitutions")["substitutions"]
    replaced = dict.fromkeys(facts[key]["replaces"] for entry in of for key in (entry["of"], *entry.get("also", ())))
    cls = pass_of(of[0])
    exactness = {
        ErrorClass.EXACT: "exact",
        ErrorClass.ROUNDING: "exact but for rounding",
        ErrorClass.LOSSY: f"approximate: {cls.bound}",
    }[cls.error_class]
    asked = "yes" if of[0].get("on_request") else "no"
    cells = (_link(name), "; ".join(replaced), exactness, asked, _chips(name))
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def _chips(name: str) -> str:
    found = [label for c, label in FAMILIES.items() if name in {p.pass_name() for p in steps(chips()[c], ("all",))}]  # type: ignore[union-attr]  # passes alone
    return "all" if len(found) == len(FAMILIES) else "; ".join(found)


def _fact_row(name: str, fact: Facts) -> str:
    used = dict.fromkeys(e["pass"] for e in entries() if name in (e["of"], *e.get("also", ())))
    exact = "yes" if fact["exact"] else "no"
    more = next((str(fact[key]) for key in ("error", "error_note", "measured_error", "limit") if key in fact), "")
    source = f"{fact['source']} ({fact['confidence']})"
    cells = (
        f"`{name}`",
        fact["replaces"],
        fact["with"],
        f"{exact}{'; ' + more if more else ''}",
        ", ".join(map(_link, used)) or "-",
        source,
    )
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(page())

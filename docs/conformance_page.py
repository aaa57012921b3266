"""Renders docs/conformance.md from the committed outcomes in tests/conformance/baseline.json."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from tests.conformance.baseline import Baseline, Row, read
from tests.conformance.disputed import DISPUTED
from tests.conformance.stages import ABSENT, FAIL, PASS, REFUSED, STAGES
from tests.conformance.stages import DISPUTED as JUDGED_OTHERWISE

TITLES = {
    "import": "import + evaluation",
    "original": "the case's own model in ONNX Runtime",
    "onnx": "back to ONNX, in ONNX Runtime",
    "coreml": "Core ML fp32, the saved package",
    "coreai": "Core AI fp32, in Apple's runtime",
    "tflite": "TFLite fp32, in LiteRT",
    "neon": "NEON fp32, the generated C",
    "metal": "Metal fp32, the generated source",
}
OURS = ("import", "onnx", "coreml", "coreai", "tflite", "neon", "metal")
WRITTEN = {"Core ML": "coreml", "Core AI": "coreai", "TFLite": "tflite", "C": "neon", "Metal": "metal"}
STATUSES = (PASS, REFUSED, ABSENT, JUDGED_OTHERWISE, FAIL)
# Measured once on the same plain node cases, the files written by each tool executed as ours are.
PEERS = (
    ("onnx2coreml 1.1.0", "Core ML", "409", "121 with wrong numbers"),
    ("onnxsim 0.8.1", "Core ML", "387", ""),
    ("coreai-onnx 1.2.1", "Core AI", "1,026", "17 with wrong numbers, 7 crashes"),
    ("onnxsim 0.8.1", "TFLite", "436", "35 with wrong numbers"),
    ("onnx2tf 2.6.9", "TFLite", "about 840", "47 with wrong numbers, hundreds of files that the runtime rejects"),
    ("emx-onnx-cgen", "C", "1,548", "11 with wrong numbers"),
)
Cases = dict[str, Row]
INTRODUCTION = """\
ONNX ships a backend suite: small models with inputs and the outputs that they must give. `make conformance` runs all of
it through every target and compares with the outcomes below, which are committed (`tests/conformance/baseline.json`);
`make test` fails if one got worse. `make conformance UPDATE=1` writes both anew.

**In scope** are the node cases whose inputs and outputs are all tensors of floats (16, 32 or 64 bits), integers (8 to
64 bits) or booleans, with all operators in the default domain. The other cases (bfloat16, float8, 4-bit types, strings,
sequences, optionals, other domains) run too and are counted apart. Random operators, decoding of images and processing
of text are refused.

Every case ends as one of

- **pass**: the numbers are those that the case states, within its own tolerance. Core ML, Core AI and TFLite compute
  doubles in 32 bits; there an error of 2e-6 of the largest element is allowed beside it. Integers, booleans, shapes and
  types are exact.
- **refused**: an error says in one sentence what cannot be done and where.
- **n/a**: ONNX Runtime runs neither the file that we write nor the case's own model.
- **disputed**: what the case states is not what runs in practice; [explained below](#disputed-cases).
- **FAIL**: wrong numbers, a crash, a file that its runtime rejects, no result in time, or an unclear error.

The stages: the model is imported and evaluated by the reference (*import + evaluation*), and it is compiled as the
command does and executed from the saved file: by ONNX Runtime, by the evaluator of saved Core ML packages (which stands
in for Core ML outside of macOS), by Apple's Core AI runtime and by LiteRT; generated C is built by the compiler of the
machine, without a warning, and run with guard words around every buffer. Inputs of which an error says that they
must be constants are frozen to the case's values and [listed below](#frozen-inputs): shapes, axes, counts and
positions, and in 19 cases other parameters (the thresholds of NonMaxSuppression, the region of Resize, the conditions
of If and Loop, the bands of MelWeightMatrix, the ratio of Dropout). All others are inputs of the compiled model.
"""


def page() -> str:
    """The whole page."""
    baseline = read()
    scope, others = node_cases(baseline, plain=True), node_cases(baseline, plain=False)
    versions = ", ".join(f"{name} {number}" for name, number in baseline.versions.items())
    lines = ["# Conformance", "", INTRODUCTION, f"Measured with {versions}.", ""]
    lines += ["## Totals", "", f"The {len(scope):,} plain node cases, of {operators(scope)} operator types:", ""]
    lines += totals(scope, STAGES)
    lines += ["", *peers(scope)]
    lines += ["", f"The {len(others)} node cases of other types and domains:", "", *totals(others, STAGES)]
    lines += ["", "The other sets, plain cases or not:", "", *other_sets(baseline)]
    lines += ["", "## Operators", "", *operator_table(scope, baseline)]
    lines += ["", "## Reasons of refusals", "", *reasons(scope)]
    lines += ["", "## Frozen inputs", "", *frozen_inputs(scope, baseline)]
    lines += ["", "## Disputed cases", "", *disputed()]
    return "\n".join(lines) + "\n"


def node_cases(baseline: Baseline, plain: bool) -> Cases:
    """Those of the node set."""
    return {name: row for name, row in baseline.rows.items() if "/" not in name and row.plain == plain}


def operators(cases: Cases) -> int:
    """How many operator types occur."""
    return len({op for row in cases.values() for op in row.ops})


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """A markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ("---",) * len(head), *rows)]


def counted(cases: Cases, stage: str) -> Counter[str]:
    """How many cases end in which way."""
    return Counter(row.verdicts[stage].status for row in cases.values())


def totals(cases: Cases, stages: tuple[str, ...]) -> list[str]:
    """One row per stage."""
    rows = []
    for stage in stages:
        count = counted(cases, stage)
        rows.append((TITLES[stage], *(f"{count[status]:,}" for status in STATUSES)))
    return table(("stage", *STATUSES), rows)


def peers(scope: Cases) -> list[str]:
    """Other converters beside ours."""
    ours = [
        ("**Cincel**", name, f"**{counted(scope, stage)[PASS]:,}**", f"{counted(scope, stage)[FAIL]} FAIL")
        for name, stage in (
            ("Core ML", "coreml"),
            ("Core AI", "coreai"),
            ("TFLite", "tflite"),
            ("C", "neon"),
            ("Metal", "metal"),
        )
    ]
    head = ("converter", "to", "cases that pass", "")
    note = "Other converters on the same cases, each measured once by executing the file that it wrote:"
    return [note, "", *table(head, [*ours, *PEERS])]


def other_sets(baseline: Baseline) -> list[str]:
    """One row per set: what passes of it."""
    sets: dict[str, Cases] = defaultdict(dict)
    for name, row in baseline.rows.items():
        suite, slash, _ = name.partition("/")
        if slash:
            sets[suite][name] = row
    rows = [
        (suite, str(len(cases)), *(cell(cases, stage) for stage in STAGES)) for suite, cases in sorted(sets.items())
    ]
    return table(("set", "cases", *(TITLES[stage] for stage in STAGES)), rows)


def cell(cases: Cases, stage: str) -> str:
    """What became of cases in a stage; just "all" if they pass."""
    count = counted(cases, stage)
    if count[PASS] == len(cases):
        return "all"
    return ", ".join(f"{count[status]} {status}" for status in STATUSES if count[status])


def subject(name: str, baseline: Baseline) -> str:
    """The operator that a node case is about; for the expansion of a function, that function."""
    base = baseline.rows.get(re.sub(r"_expanded.*$", "", name), baseline.rows[name])
    return base.ops[0]


def operator_table(scope: Cases, baseline: Baseline) -> list[str]:
    """One row per operator."""
    groups: dict[str, Cases] = defaultdict(dict)
    for name, row in scope.items():
        groups[subject(name, baseline)][name] = row
    rows = [(op, str(len(cases)), *(cell(cases, stage) for stage in OURS)) for op, cases in sorted(groups.items())]
    inside = sorted({op for row in scope.values() for op in row.ops} - set(groups))
    lines = ["A case counts for the operator that it is about; the expansion of a function counts for the function."]
    lines += [f"Within expansions only: {', '.join(inside)}."] if inside else []
    return [*lines, "", *table(("operator", "cases", *(TITLES[stage] for stage in OURS)), rows)]


def reasons(scope: Cases) -> list[str]:
    """What is said, and how often; what is refused at import is said once for all stages."""
    lines = []
    for stage in OURS:
        counts = Counter(
            row.verdicts[stage].reason
            for row in scope.values()
            if row.verdicts[stage].status in (REFUSED, ABSENT)
            and (stage == "import" or row.verdicts["import"].status != REFUSED)
        )
        after = "" if stage == "import" else " (beside what is refused at import)"
        lines += [f"### {TITLES[stage][:1].upper()}{TITLES[stage][1:]}{after}", ""]
        rows = [(escaped(reason), str(n)) for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
        lines += [*table(("reason", "cases"), rows), ""]
    return lines[:-1]


def escaped(text: str) -> str:
    """Safe inside a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def frozen_inputs(scope: Cases, baseline: Baseline) -> list[str]:
    """Per operator and set of inputs, the cases."""
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for name, row in scope.items():
        if row.frozen:
            groups[subject(name, baseline), row.frozen].append(name.removeprefix("test_"))
    count = sum(map(len, groups.values()))
    ordered = sorted((op, names, ", ".join(sorted(cases))) for (op, names), cases in groups.items())
    rows = [(op, ", ".join(f"`{name}`" for name in names), cases) for op, names, cases in ordered]
    note = f"In {count} of the {len(scope):,} cases; the names of the inputs are the cases' own."
    return [note, "", *table(("operator", "inputs", "cases"), rows)]


def disputed() -> list[str]:
    """Each with what is disputed."""
    note = "They are judged by what ONNX Runtime computes, must agree with that, and do not count as passes."
    return [note, "", *(f"- `{name}`: {reason}." for name, reason in DISPUTED.items())]

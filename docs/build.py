"""Renders the generated pages of docs/: operations, passes, what each target runs, the conformance to ONNX's suite, and
(with --models) measured models.

python docs/build.py            # everything that is derived from the code; a test keeps it current
python docs/build.py --models   # also compiles every model of the project and the onnx package: minutes
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT.parent), str(ROOT)]

from conformance_page import page as conformance  # noqa: E402
from placement_page import page as placement  # noqa: E402
from substitutions_page import page as substitutions  # noqa: E402

import compiler.importers  # noqa: E402  # registers the importers
import compiler.ops  # noqa: E402, F401  # registers the operations
import passes  # noqa: E402, F401  # registers the passes
from compiler.importers.registry import IMPORTERS  # noqa: E402
from compiler.onnx_survey import DEFINED  # noqa: E402
from compiler.op import FROM_ONNX, OPS  # noqa: E402
from compiler.pass_base import LATER, PASSES, PIPELINES, pass_class  # noqa: E402
from targets.coreai.lower import TABLE as COREAI  # noqa: E402
from targets.coreai.lower.table import GENERAL as COREAI_GENERAL  # noqa: E402
from targets.coreml.lower import TABLE  # noqa: E402
from targets.coreml.lower.table import GENERAL as ANE_GENERAL  # noqa: E402
from targets.metal.lower import TABLE as METAL  # noqa: E402
from targets.neon.lower import TABLE as NEON  # noqa: E402
from targets.source.needs import HELD, KNOWN  # noqa: E402
from targets.source.table import Table  # noqa: E402
from targets.tflite.lower import TABLE as NNAPI  # noqa: E402
from targets.tflite.lower.table import GENERAL  # noqa: E402

PLACES = """\
No index leads outside of memory: a negative one counts from the end, as ONNX says, and one beyond the ends, which ONNX
does not allow, is taken to the nearest element (`gather`, `gather_elements`, `gather_nd`, `scatter_elements`,
`scatter_nd`, and what is decomposed into them); lengths of `reverse_sequence` are cut to the axis."""
BUFFERS = """\
Where the data decide how many results there are (`compress`, `nonzero`, `non_max_suppression`, `unique`), the output
buffer has room for the most that there may be, and a buffer of its own takes the length of each axis, 64 bits each.
Floats of 64 bits, which the language lacks, are computed in 32; inputs and outputs of that type are floats."""
SIZES = """\
Where the data decide how many results there are (`compress`, `nonzero`, `non_max_suppression`, `unique`), the output
has room for the most that there may be, and the struct of outputs has a second member beside it, `size_t *NAME_dims`,
where the library writes the length of each axis. Elements lie densely, as for a tensor of those lengths; what is behind
them is left as it was. The runner writes the lengths to `D/0.dims`, as text, and only the elements that there are to
`D/0.bin`."""
GENERATED = "<!-- Written by docs/build.py; change the code it describes instead. -->"


def first_sentence(doc: str | None) -> str:
    """The first sentence of a docstring, on one line and safe inside a table."""
    text = " ".join((doc or "").split("\n\n")[0].split())
    return text.replace("|", "\\|")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """A markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ("---",) * len(head), *rows)]


def operations() -> str:
    """Every operation with its ONNX operator and meaning, then the ONNX operators that become others."""
    rows = [(f"`{name}`", op.onnx, first_sentence(op.__doc__)) for name, op in sorted(OPS.items())]
    others = sorted(set(IMPORTERS) - set(FROM_ONNX))
    lines = [GENERATED, "# Operations", "", f"{len(OPS)} operations; the text form uses these names.", ""]
    lines += table(("operation", "ONNX", "meaning"), rows)
    lines += [
        "",
        "ONNX operators that are read as other operations: " + ", ".join(others) + "; and `If`, `Loop`, `Scan`",
        "where they are decided at compile time. " + " and ".join(DEFINED) + " are read as the functions",
        "that ONNX defines them by.",
    ]
    return "\n".join(lines) + "\n"


def pass_index() -> str:
    """Every pass with its error class, and the pipelines."""
    rows = []
    for name in LATER:
        pass_class(name)
    for name, cls in sorted(PASSES.items()):
        if not cls.__module__.startswith("passes."):
            continue
        stem = cls.__module__.rpartition(".")[2]
        doc = sys.modules[cls.__module__].__doc__
        rows.append((f"[{name}]({stem}.md)", cls.error_class.value, first_sentence(doc)))
    lines = [GENERATED, "# Passes", ""]
    lines += table(("pass", "error class", "what it does"), rows)
    lines += ["", "## Pipelines", ""]
    lines += [f"- `{name}`: {', '.join(f'`{step}`' for step in steps)}" for name, steps in PIPELINES.items()]
    return "\n".join(lines) + "\n"


def conformance_page() -> str:
    """What happens to every case of ONNX's suite."""
    return f"{GENERATED}\n{conformance()}"


def placement_rules() -> str:
    """What the Neural Engine runs, by family."""
    return f"{GENERATED}\n{placement()}"


def ane_operations() -> str:
    """What the Core ML target runs, and what it needs."""
    supported = TABLE.support()
    missing = sorted(set(OPS) - {name for name, _ in supported})
    general = "; ".join(need.text for need in ANE_GENERAL)
    lines = [GENERATED, "# Operations of target `ane`", "", f"All need {general}, and what is said here beside.", ""]
    lines += table(("operation", "needs"), [(f"`{name}`", needs) for name, needs in supported])
    lines += ["", "No lowering: " + ", ".join(f"`{name}`" for name in missing) + "."] if missing else []
    return "\n".join(lines) + "\n"


def coreai_operations() -> str:
    """What the Core AI target runs, and what it needs."""
    supported = COREAI.support()
    missing = sorted(set(OPS) - {name for name, _ in supported})
    general = "; ".join(need.text for need in COREAI_GENERAL)
    lines = [GENERATED, "# Operations of target `coreai`", "", f"All need {general}, and what is said here beside.", ""]
    lines += table(("operation", "needs"), [(f"`{name}`", needs) for name, needs in supported])
    lines += ["", "No lowering: " + ", ".join(f"`{name}`" for name in missing) + "."] if missing else []
    return "\n".join(lines) + "\n"


def ane_substitutions() -> str:
    """What stands in for what the Neural Engine does not run."""
    return f"{GENERATED}\n{substitutions()}"


def source_operations(name: str, table_of: Table[Any], sizes: str) -> str:  # Any: of whichever program
    """What a target that writes source runs, and what it needs; `sizes` tells how results of unknown size come."""
    general = (KNOWN, HELD)
    supported = sorted(
        (op.name, "; ".join(n.text for n in needs if n not in general)) for op, (needs, _) in table_of.entries.items()
    )
    missing = sorted(set(OPS) - {known for known, _ in supported})
    lines = [GENERATED, f"# Operations of target `{name}`", "", f"All of them need {KNOWN.text}; {HELD.text}.", ""]
    lines += [PLACES, "", sizes, ""]
    lines += table(("operation", "needs"), [(f"`{known}`", needs) for known, needs in supported])
    lines += ["", "No lowering: " + ", ".join(f"`{name}`" for name in missing) + "."] if missing else []
    return "\n".join(lines) + "\n"


def neon_operations() -> str:
    """What the NEON target runs, and what it needs."""
    return source_operations("neon", NEON, SIZES)


def metal_operations() -> str:
    """What the Metal target runs, and what it needs."""
    return source_operations("metal", METAL, BUFFERS)


def nnapi_operations() -> str:
    """What the TensorFlow Lite target runs, and what it needs."""
    general = [need.text for need in GENERAL]
    supported = sorted(
        (op.name, "; ".join(n.text for n in needs if n.text not in general)) for op, (needs, _) in NNAPI.entries.items()
    )
    missing = sorted(set(OPS) - {name for name, _ in supported})
    lines = [GENERATED, "# Operations of target `nnapi`", "", f"All of them need {'; '.join(general)}.", ""]
    lines += table(("operation", "needs"), [(f"`{name}`", needs) for name, needs in supported])
    lines += ["", "No lowering: " + ", ".join(f"`{name}`" for name in missing) + "."] if missing else []
    return "\n".join(lines) + "\n"


PAGES = {
    "conformance.md": conformance_page,
    "operations.md": operations,
    "passes/README.md": pass_index,
    "placement-rules.md": placement_rules,
    "targets/ane-operations.md": ane_operations,
    "targets/ane-substitutions.md": ane_substitutions,
    "targets/coreai-operations.md": coreai_operations,
    "targets/metal-operations.md": metal_operations,
    "targets/neon-operations.md": neon_operations,
    "targets/nnapi-operations.md": nnapi_operations,
}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (ROOT / name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/{name}")
    if "--models" in sys.argv[1:]:
        from model_tables import write_models  # beside this file; compiles models

        write_models(ROOT / "models.md")


if __name__ == "__main__":
    main()

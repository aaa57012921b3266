"""The part of the program that is made for one text: callers of its kernels, from their signatures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import codegen
from compiler.errors import EmitError
from targets.metal.execute.text import KernelText, Parameter

HOST = Path(codegen.__file__).parent / "templates" / "metal" / "host"  # headers that make C++ of the text
_TRIPLES = {
    "thread_position_in_grid": "c.group[{0}] * c.threads[{0}] + c.place[{0}]",
    "threads_per_grid": "c.groups[{0}] * c.threads[{0}]",
    "thread_position_in_threadgroup": "c.place[{0}]",
    "threads_per_threadgroup": "c.threads[{0}]",
    "dispatch_threads_per_threadgroup": "c.threads[{0}]",
    "threadgroup_position_in_grid": "c.group[{0}]",
    "threadgroups_per_grid": "c.groups[{0}]",
}
_NUMBERS = {
    "thread_index_in_threadgroup": "c.in_group",
    "thread_index_in_simdgroup": "c.lane",
    "simdgroup_index_in_threadgroup": "c.simdgroup",
    "threads_per_simdgroup": "32",
    "thread_execution_width": "32",
    "simdgroups_per_threadgroup": "c.simdgroups",
    "dispatch_simdgroups_per_threadgroup": "c.simdgroups",
    "thread_index_in_quadgroup": "c.lane % 4",
    "quadgroup_index_in_threadgroup": "c.in_group / 4",
}
POSITIONS = (*_TRIPLES, *_NUMBERS)
SIZES = {**dict.fromkeys(("uint", "ushort"), 1), **{f"{t}{n}": n for t in ("uint", "ushort") for n in (2, 3)}}
_FORM = """\
#include "host_program.h"
#include "model.metal"

{callers}
namespace host {{

const Kernel kernels[] = {{
{rows}
}};

}}  // namespace host
"""


def driver(kernels: Sequence[KernelText]) -> str:
    """C++ that includes the text and lists its kernels. EmitError for a parameter that no host can give."""
    callers = "\n".join(_caller(i, k) for i, k in enumerate(kernels))
    rows = "\n".join(f'    {{"{k.name}", call_{i}, parameters_{i}, {_count(k)}}},' for i, k in enumerate(kernels))
    return _FORM.format(callers=callers, rows=rows)


def bound(k: KernelText) -> list[Parameter]:
    """Parameters that are memory."""
    return [p for p in k.parameters if p.attribute in ("buffer", "threadgroup")]


def _count(k: KernelText) -> int:
    return len(bound(k))


def _caller(i: int, k: KernelText) -> str:
    given = ",\n        ".join(_argument(k, p) for p in k.parameters)
    rows = "".join(
        f'    {{"{p.name}", {p.slot}, host::grain_of(alignof(metal::host_element<{p.ctype}>)), sizeof({p.ctype}), '
        f"{str(p.attribute == 'threadgroup').lower()}, {str(p.is_const).lower()}}},\n"
        for p in bound(k)
    )
    empty = '    {"", 99, 1, 1, false, true},\n'
    return (
        f"static const host::Parameter parameters_{i}[] = {{\n{rows or empty}}};\n"
        f"HOST_PLAIN static void call_{i}(const host::Call &c) {{\n    (void)c;\n    ::{k.name}({given});\n}}\n"
    )


def _argument(k: KernelText, p: Parameter) -> str:
    if p.attribute in ("buffer", "threadgroup"):
        if not 0 <= p.slot < 31:
            raise EmitError(f"kernel {k.name}: [[{p.attribute}]] of parameter {p.name} is not 0 to 30")
        memory = "buffers" if p.attribute == "buffer" else "memories"
        const = "const " if p.is_const else ""
        return f"{'*' if p.is_reference else ''}static_cast<{const}{p.ctype} *>(c.{memory}[{p.slot}])"
    n = SIZES.get(p.ctype)
    if n is None or p.attribute not in POSITIONS or (n > 1 and p.attribute in _NUMBERS):
        raise EmitError(f"kernel {k.name}: no number for parameter {p.ctype} {p.name} [[{p.attribute}]]")
    element = p.ctype.rstrip("23")
    form = _TRIPLES.get(p.attribute) or _NUMBERS[p.attribute]
    parts = ", ".join(f"metal::{element}({form.format(axis)})" for axis in range(n))
    return f"metal::{p.ctype}({parts})"

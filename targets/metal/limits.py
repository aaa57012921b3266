"""What kernels can count: places of elements are numbers of 32 bits with a sign, lengths in bytes such without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.errors import EmitError
from compiler.graph import Graph, Value
from targets.source.dynamic import largest
from targets.source.program import nbytes

ELEMENTS = 1 << 31
BYTES = 1 << 32
THREADS = 1 << 32  # along an axis of a grid
RANGES = {"uint": range(1 << 32), "int": range(-(1 << 31), 1 << 31)}


def size_objections(graph: Graph) -> list[str]:
    """One line for every layer with a result, and every input and constant, that is too large."""
    needed = f"needs tensors of fewer than {ELEMENTS:,} elements and {BYTES:,} bytes"
    ports = [f"{v!r} -- {needed}" for v in (*graph.inputs, *graph.constants) if _is_large(v)]
    layers = [f"{node.describe()} -- {needed}" for node in graph.nodes if any(map(_is_large, node.outputs))]
    return [*ports, *layers]


def _is_large(v: Value) -> bool:
    """Also the most that a result of unknown size may be; False if that is not known."""
    t = largest(v)
    return t.is_static and (t.size >= ELEMENTS or nbytes(t) >= BYTES)


def check_launches(dispatches: Sequence[Mapping[str, Any]]) -> None:  # Any: what JSON holds
    """EmitError for the first dispatch of a plan with numbers that do not fit their types of 32 bits, or with so many
    threads along an axis of its grid that their positions do not."""
    for d in dispatches:
        threads = max(n * each for n, each in zip(d["threadgroups"], d["threads"], strict=True))
        wrong = [n["name"] for n in d.get("numbers", ()) if n["type"] in RANGES and n["value"] not in RANGES[n["type"]]]
        if threads > THREADS or wrong:
            what = f"{', '.join(wrong)} as numbers" if wrong else f"{threads:,} threads along an axis"
            raise EmitError(
                f"kernel {d['kernel']} would take {what}, which 32 bits do not hold",
                where=d["origin"] or None,
                hint="smaller inputs (--shape)",
            )

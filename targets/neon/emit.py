"""A library as a folder: plans where buffers lie, then writes sources and weights."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from codegen.arena import ALIGNMENT, Plan
from codegen.library import Library, kernel_files, required_isa, sources
from codegen.names import identifier
from codegen.neon.vectors import is_vector
from codegen.program import Choice
from compiler.errors import LegalityError
from compiler.graph import Graph
from compiler.new_folder import new_folder
from targets.neon.blocking import Core
from targets.neon.build import MARK
from targets.neon.lower import matmul as _registered  # noqa: F401  # fills the table
from targets.neon.program import NeonProgram
from targets.neon.report import Written
from targets.neon.table import TABLE
from targets.source.planning import planned, write_schedule
from targets.source.schedule import Schedule

WORDS = 6  # of 64 bits in a line of an array


class Form(NamedTuple):
    """How a library is written: what it is called (else as its folder), how many threads may share the work, where the
    weights are, and how many bytes of weights and working memory it may take."""

    name: str | None = None
    threads: int = 1
    embed: str = "file"
    limit: int | None = None


DEFAULT = Form()


def lowered(graph: Graph, precision: str, isa: str, threads: int = 1, cut_for: Core | None = None) -> NeonProgram:
    """The schedule of a prepared graph."""
    p = NeonProgram(graph, precision, isa, threads, cut_for)
    write_schedule(p, TABLE, is_vector)
    return p


def write_library(p: Schedule, title: str, path: Path, form: Form = DEFAULT) -> Written:
    """Write the folder, complete or not at all. LegalityError if it takes more memory than it may, EmitError if it
    cannot be written."""
    made = planned(p)
    _expect_room(made.size, p.weights.size, form.limit)
    used = {b for c in p.calls for b in (*c.reads, *c.writes)}
    library = Library(
        name=identifier(form.name or path.resolve().name),
        title=title,
        calls=p.calls,
        kernels=p.kernels,
        inputs=p.ports.inputs,
        outputs=p.ports.outputs,
        arena=[b for b in p.buffers if b in used],
        arena_size=made.size,
        weights=p.weights.buffers,
        weights_size=p.weights.size,
        threads=form.threads,
        embed=form.embed,
    )
    texts = sources(library)
    told = _told(library, made, sum(len(text.encode()) for text in texts.values()))
    with new_folder(path, not path.exists() or (path / MARK).is_file(), "a folder of a generated library") as folder:
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
        if form.embed == "array":
            with (folder / "weights.c").open("w", encoding="ascii") as source:
                _write_array(p, library.name, source)
        else:
            with (folder / "weights.bin").open("wb") as out:
                p.weights.write(out)
        (folder / MARK).write_text(_manifest(library, told), encoding="utf-8")
    return told


def _expect_room(arena: int, weights: int, limit: int | None) -> None:
    if limit is None or arena + weights <= limit:
        return
    raise LegalityError(
        f"neon: {arena:,} bytes of working memory and {weights:,} of weights are {arena + weights - limit:,} more than"
        f" the {limit:,} of --memory-limit",
        hint="--precision fp16 or int8 takes less; or compress the model with --size",
    )


def _told(library: Library, made: Plan, code: int) -> Written:
    return Written(
        library.name,
        made.size,
        made.bound,
        library.weights_size,
        code,
        sum(not isinstance(k, Choice) for k in library.kernels),
        len(library.calls),
        library.threads,
        required_isa(library),
    )


def _manifest(library: Library, told: Written) -> str:
    """The library for other programs."""
    ports = {
        kind: [
            {
                "name": p.original,
                "field": p.buffer.name,
                "type": p.ctype,
                "dims": list(p.dims),
                "bytes": p.buffer.nbytes,
            }
            for p in given
        ]
        for kind, given in (("inputs", library.inputs), ("outputs", library.outputs))
    }
    march = {f.name: f.march for f in kernel_files(library.kernels) if f.march}
    made = {"generated": "cincel", **told.as_json(), "alignment": ALIGNMENT, **ports, "march": march}
    return json.dumps(made, indent=1) + "\n"


def _write_array(p: Schedule, name: str, to: TextIO) -> None:
    """The weights as numbers of 64 bits, for little-endian processors."""
    to.write(f"/* The weights. */\n#include <stdint.h>\n\nextern const uint64_t {name}_weights[];\n\n")
    to.write(f"_Alignas({ALIGNMENT}) const uint64_t {name}_weights[] = {{\n")
    to.writelines(f"    {line}\n" for line in _lines(p))
    to.write("    0,\n};\n")


def _lines(p: Schedule) -> Iterator[str]:
    block = io.BytesIO()
    p.weights.write(block)
    words = memoryview(block.getbuffer()).cast("Q")
    for begin in range(0, len(words), WORDS):
        yield " ".join(f"{word:#x}," for word in words[begin : begin + WORDS])

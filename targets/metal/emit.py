"""A model as a folder: the source of its kernels, the plan, its weights, and the host's sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from codegen.metal import forms as _forms  # noqa: F401  # those of kernels that all generators know
from codegen.metal.glue import glue_files
from codegen.metal.kernel import MetalKernel
from codegen.metal.plan import PAGE, Host, plan
from codegen.metal.scalar import is_metal
from codegen.metal.source import source
from codegen.names import identifier
from compiler.graph import Graph
from compiler.new_folder import new_folder
from targets.metal.families import DEFAULT, Family, family_of, gpu
from targets.metal.fusion import fuse
from targets.metal.limits import check_launches
from targets.metal.lower import TABLE
from targets.metal.program import MetalProgram
from targets.metal.report import Written, told
from targets.source.planning import planned, write_schedule

SOURCE, PLAN = "model.metal", "plan.json"


class Form(NamedTuple):
    """How a model is written: what it is called (else as its folder), how numbers are stored, and for which GPUs: a
    family or a chip."""

    name: str | None = None
    precision: str = "fp16"
    gpu: str = DEFAULT

    @property
    def family(self) -> Family:
        """Of the GPUs. UsageError if nothing is known of them."""
        return family_of(self.gpu)


def lowered(graph: Graph, form: Form) -> MetalProgram:
    """The dispatches of a prepared graph."""
    p = MetalProgram(graph, form.precision, form.family, gpu(form.gpu))
    write_schedule(p, TABLE, is_metal)
    fuse(p)
    return p


def write_model(p: MetalProgram, title: str, path: Path, form: Form) -> Written:
    """Write the folder, complete or not at all. EmitError if it cannot be written."""
    memory = planned(p)
    weights = -(-max(p.weights.size, 1) // PAGE) * PAGE
    host = Host(
        name=identifier(form.name or path.resolve().name),
        title=title,
        precision=form.precision,
        family=form.family.name,
        heap=memory.size,
        weights=weights,
    )
    used = {b for c in p.calls for b in (*c.reads, *c.writes)}
    ports = {*p.inputs, *p.outputs, *p.sizes}
    buffers = [b for b in (*p.inputs, *p.outputs, *p.sizes, *p.buffers, *p.weights.buffers) if b in used | ports]
    made = plan(host, buffers, p.ports.inputs, p.ports.outputs, p.calls)
    check_launches(made["dispatches"])
    kernels = [k for k in p.kernels if isinstance(k, MetalKernel)]
    texts = {SOURCE: source(title, kernels), PLAN: _json(made), **glue_files(made)}
    is_ours = not path.exists() or all((path / name).is_file() for name in (SOURCE, PLAN))
    with new_folder(path, is_ours, "a folder of a generated model") as folder:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        with (folder / "weights.bin").open("wb") as out:
            p.weights.write(out)
            out.write(b"\0" * (weights - out.tell()))
    return told(p, made, memory, len(texts[SOURCE].encode()), gpu(form.gpu))


def _json(made: dict[str, Any]) -> str:
    """Values for other programs, one dispatch a line."""
    lines = []
    for key, value in made.items():
        if isinstance(value, list) and value:
            inner = ",\n".join(f"  {json.dumps(v)}" for v in value)
            lines.append(f' "{key}": [\n{inner}\n ]')
        else:
            lines.append(f' "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"

"""Runs one text of Metal Shading Language on arrays, with a plan of few words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from targets.metal.execute import Executor
from targets.metal.execute.executor import DTYPES

Array = npt.NDArray[Any]
HEADER = "#include <metal_stdlib>\n#include <metal_simdgroup_matrix>\nusing namespace metal;\n\n"
TYPES = {np.dtype(v): k for k, v in DTYPES.items()}
Result = tuple[str, tuple[int, ...]]  # the type of its elements, and its shape


def launch(
    kernel: str,
    buffers: Sequence[str],
    threadgroups: Sequence[int] = (1, 1, 1),
    threads: Sequence[int] = (32, 1, 1),
    numbers: dict[str, int | float] | None = None,
    memory: Sequence[int] = (),
    barrier: bool = True,
) -> dict[str, Any]:
    """A dispatch of a plan; a number of Python's is a uint or a float."""
    made: dict[str, Any] = {
        "kernel": kernel,
        "title": "",
        "origin": "",
        "threadgroups": [*threadgroups, 1, 1][:3],
        "threads": [*threads, 1, 1][:3],
        "buffers": [{"buffer": b, "offset": 0} for b in buffers],
        "threadgroup_memory": [*memory],
        "barrier": barrier,
    }
    if numbers:
        kinds = {n: "float" if isinstance(x, float) else "uint" for n, x in numbers.items()}
        made["numbers"] = [{"name": n, "type": kinds[n], "value": x} for n, x in numbers.items()]
    return made


def folder(
    to: Path,
    text: str,
    inputs: dict[str, Array],
    outputs: dict[str, Result],
    dispatches: Sequence[dict[str, Any]],
    heap: dict[str, int] | None = None,
    weights: dict[str, Array] | None = None,
) -> Path:
    """What a compiled model would be: `heap` names buffers of so many bytes, one behind the other."""
    places, offset = [], 0
    for name, n in (heap or {}).items():
        places.append({"name": name, "place": "heap", "offset": offset, "nbytes": n, "note": ""})
        offset += -(-n // 256) * 256
    data = bytearray()
    for name, array in (weights or {}).items():
        places.append({"name": name, "place": "weights", "offset": len(data), "nbytes": array.nbytes, "note": ""})
        data += array.tobytes() + bytes(-array.nbytes % 256)
    data += bytes(-len(data) % 16384)
    given = [(n, TYPES[a.dtype], a.shape, "input") for n, a in inputs.items()]
    taken = [(n, t, shape, "output") for n, (t, shape) in outputs.items()]
    for name, ctype, shape, place in [*given, *taken]:
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(DTYPES[ctype]).itemsize
        places.append({"name": name, "place": place, "offset": 0, "nbytes": nbytes, "note": ""})
    plan = {
        "version": 1,
        "name": "model",
        "heap": {"nbytes": offset, "alignment": 256},
        "weights": {"file": "weights.bin", "nbytes": len(data)},
        "buffers": places,
        "inputs": [{"name": n, "buffer": n, "type": t, "shape": [*s]} for n, t, s, _ in given],
        "outputs": [{"name": n, "buffer": n, "type": t, "shape": [*s]} for n, t, s, _ in taken],
        "dispatches": [*dispatches],
    }
    to.mkdir(parents=True, exist_ok=True)
    (to / "model.metal").write_text(HEADER + text, encoding="utf-8")
    (to / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (to / "weights.bin").write_bytes(bytes(data))
    return to


def run(
    to: Path,
    text: str,
    inputs: dict[str, Array],
    outputs: dict[str, Result],
    dispatches: Sequence[dict[str, Any]],
    checks: bool = True,
    compiler: str | None = None,
    heap: dict[str, int] | None = None,
    weights: dict[str, Array] | None = None,
) -> list[Array]:
    """The results of a text; compiled without a warning."""
    executor = Executor(folder(to, text, inputs, outputs, dispatches, heap, weights), checks, compiler)
    assert executor.program().warnings == ""
    return executor.run([*inputs.values()])

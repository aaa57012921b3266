"""A generated model and how to run it: on the GPU of a Mac, elsewhere on the processor, for which its source is
compiled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compiler.errors import EmitError, UsageError
from compiler.graph import Graph
from compiler.oracle import checked_inputs, input_types
from compiler.target import Artifact
from compiler.tensor import Array, dtype_of
from targets.metal.device import Device, has_gpu
from targets.metal.execute import Executor, faults
from targets.metal.report import Written
from targets.source.program import ctype_of


class MetalArtifact(Artifact):
    """A folder of Metal sources. `checks`: every access to memory is checked while it runs on a processor."""

    def __init__(self, path: Path, graph: Graph, written: Written, *, checks: bool = True) -> None:
        self.path, self.warnings, self.details = path, [], written
        self._types = input_types(graph)
        self._outputs = [(n, v.type) for n, v in zip(graph.output_names, graph.outputs, strict=True)]
        self._executor: Executor | Device | None = None
        self._checks = checks

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = checked_inputs(inputs, self._types)
        if self._executor is None:
            self._executor = self._read()
        results = self._executor.run([_held(a) for a in given.values()])
        return {name: _given(array, t.dtype.numpy) for (name, t), array in zip(self._outputs, results, strict=True)}

    def _read(self) -> Executor | Device:
        """What runs the folder. EmitError if its source is not in the language."""
        if has_gpu():
            self.notes = [*self.notes, "run on this machine's GPU"]
            return Device(self.path)
        found = faults((self.path / "model.metal").read_text(encoding="utf-8"))
        if found:
            raise EmitError(f"the source is not Metal: {found[0]}", where=str(self.path / "model.metal"))
        self.notes = [*self.notes, f"run on this machine's processor{', every access checked' * self._checks}"]
        return Executor(self.path, checks=self._checks)


def _held(a: Array) -> Array:
    """As it lies in the memory of a GPU, which has no doubles, and holds what the language has no type for as bytes."""
    if a.dtype == np.float64:
        with np.errstate(over="ignore"):
            held = np.ascontiguousarray(a, np.float32)
        if not np.array_equal(np.isinf(held), np.isinf(a)):
            raise UsageError("an input holds numbers beyond floats of 32 bits", hint="Metal has no 64-bit floats")
        return held
    if a.dtype.itemsize > 1 or a.dtype.kind not in "Vb":
        return a
    return np.ascontiguousarray(a).view(np.int8 if ctype_of(dtype_of(a)) == "int8_t" else np.uint8)


def _given(a: Array, dtype: np.dtype[Any]) -> Array:
    """The same of a result."""
    return a.view(dtype) if a.dtype.itemsize == dtype.itemsize else a.astype(dtype)

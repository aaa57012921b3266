"""A generated library and how to run it: it is compiled and executed."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compiler.graph import Graph
from compiler.oracle import checked_inputs, input_types
from compiler.target import Artifact
from compiler.tensor import Array
from targets.neon.build import Toolchain, build, run, toolchain
from targets.neon.report import Written


class NeonArtifact(Artifact):
    """A folder of C. `tools` build and run it; by default what `run_on` names: auto, native or qemu. The program is
    built once."""

    def __init__(
        self,
        path: Path,
        graph: Graph | None,
        warnings: list[str],
        tools: Toolchain | None = None,
        run_on: str = "auto",
        written: Written | None = None,
    ) -> None:
        self.path, self.warnings = path, warnings
        self.tools, self.run_on = tools, run_on
        self.details = written
        self._types = input_types(graph) if graph is not None else {}
        self._outputs = (
            [(n, v.type) for n, v in zip(graph.output_names, graph.outputs, strict=True)] if graph is not None else []
        )
        self._built: Path | None = None
        self.macs = 0 if graph is None else sum(n.macs for n in graph.nodes)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self.run_with(inputs)[0]

    def run_with(self, inputs: Mapping[str, Array], flags: Sequence[str] = ()) -> tuple[dict[str, Array], str]:
        """Execute the artifact with more flags of its runner; the outputs, and what it prints."""
        given = checked_inputs(inputs, self._types)
        results, told = self.executed([*given.values()], [t.dtype.numpy for _, t in self._outputs], flags)
        outputs = {
            name: array.reshape(t.dims if t.is_static else dims)
            for (name, t), (array, dims) in zip(self._outputs, results, strict=True)
        }
        return outputs, told

    def executed(
        self, arrays: Sequence[Array], dtypes: Sequence[np.dtype[Any]], flags: Sequence[str] = ()
    ) -> tuple[list[tuple[Array, tuple[int, ...]]], str]:
        """Run the program on arrays as they lie in memory: the elements of each result, of such a type, with its sizes
        if the program tells them; and what it prints."""
        program, tools = self._program()
        with tempfile.TemporaryDirectory() as name:
            scratch = Path(name)
            files = []
            for i, array in enumerate(arrays):
                files.append(scratch / f"in{i}.bin")
                files[-1].write_bytes(np.ascontiguousarray(array).tobytes())
            told = run(program, tools, self.path, files, scratch, flags)
            found = [
                (np.fromfile(scratch / f"{i}.bin", dtype), _sizes(scratch / f"{i}.dims"))
                for i, dtype in enumerate(dtypes)
            ]
        return found, told

    def use(self, tools: Toolchain) -> None:
        """Build and run with other tools from now on."""
        self.tools, self._built = tools, None

    def _program(self) -> tuple[Path, Toolchain]:
        if self.tools is None:
            self.tools = toolchain(self.run_on, self.macs)
        if self._built is None:
            folder = Path(tempfile.mkdtemp(prefix="cincel-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self._built = build(self.path, self.tools, folder)
            self.notes = [*self.notes, f"run on {self.tools.label}"] if self.tools.label else self.notes
        return self._built, self.tools


def _sizes(path: Path) -> tuple[int, ...]:
    """The shape of a result that the runner wrote; empty if it did not."""
    return tuple(map(int, path.read_text(encoding="utf-8").split())) if path.exists() else ()

"""Runs the folder of a compiled model on the GPU of a Mac, by the program that is written with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compiler.errors import EmitError
from compiler.tensor import Array
from targets.metal.execute.executor import DTYPES

COMPILER = "swiftc"


def has_gpu() -> bool:
    """Whether this machine runs Metal, and has what builds the program."""
    return sys.platform == "darwin" and shutil.which(COMPILER) is not None


class Device:
    """`main.swift` and `Model.swift` of a folder, built once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        self._program: Path | None = None

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """The results for arrays in the order and of the types of the plan. EmitError if the program is not built, or
        fails."""
        if self._program is None:
            self._program = self._build()
        with tempfile.TemporaryDirectory(prefix="cincel-metal-") as name:
            scratch = Path(name)
            files = [scratch / f"in{i}.bin" for i in range(len(arrays))]
            for file, array in zip(files, arrays, strict=True):
                file.write_bytes(np.ascontiguousarray(array).tobytes() or b"\0")
            _done([self._program, self.folder, *files, "--repeats", "1", "--save", scratch / "results"])
            return self._results(scratch / "results")

    def _build(self) -> Path:
        scratch = Path(tempfile.mkdtemp(prefix="cincel-metal-"))
        weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        sources = [self.folder / name for name in ("Model.swift", "main.swift")]
        _done([COMPILER, "-O", *sources, "-o", scratch / "run"])
        return scratch / "run"

    def _results(self, folder: Path) -> list[Array]:
        """As the program saves them: all results, then the lengths of those whose sizes the data decide."""
        outputs = self.plan["outputs"]
        lengths = iter(range(len(outputs), 2 * len(outputs)))
        results = []
        for i, output in enumerate(outputs):
            elements = np.fromfile(folder / f"{i}.bin", DTYPES[output["type"]])
            shape = output["shape"]
            if output.get("sizes"):
                shape = np.fromfile(folder / f"{next(lengths)}.bin", np.int64).tolist()
            results.append(elements[: int(np.prod(shape, dtype=np.int64))].reshape(shape))
        return results


def _done(command: Sequence[str | Path]) -> None:
    """Run a program. EmitError with its last words if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)  # noqa: S603  # the user's compiler, and what it made
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise EmitError(f"the model could not be run on this machine's GPU: {last}")

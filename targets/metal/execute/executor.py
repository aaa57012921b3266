"""Runs the folder of a compiled model on the processor: `Executor(folder).run(arrays)`.

The text of `model.metal` is compiled as C++17 with the headers of `codegen/templates/metal/host`, and every thread of
every dispatch runs, threadgroup by threadgroup. With checks the compiler instruments each access that is not provably
local as for its own detector of races, and the program brings the functions that such code calls.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from compiler.errors import EmitError, UsageError
from targets.metal.execute import plan as plans
from targets.metal.execute.build import Program, build, cxx, flags
from targets.metal.execute.text import kernels, tokens

Array = npt.NDArray[Any]
DTYPES: dict[str, npt.DTypeLike] = {
    "bool": np.bool_,
    "char": np.int8,
    "uchar": np.uint8,
    "short": np.int16,
    "ushort": np.uint16,
    "int": np.int32,
    "uint": np.uint32,
    "long": np.int64,
    "ulong": np.uint64,
    "half": np.float16,
    "bfloat": ml_dtypes.bfloat16,
    "float": np.float32,
}


class Executor:
    """A folder with `model.metal`, `plan.json` and `weights.bin`, run on arrays; texts that are alike are built once.

    EmitError for a plan that does not fit the text or the limits of a threadgroup.
    """

    def __init__(self, folder: Path, checks: bool = True, compiler: str | None = None) -> None:
        self.folder, self.checks, self.compiler = folder, checks, compiler
        self.plan: plans.Plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        self.text = (folder / "model.metal").read_text(encoding="utf-8")
        words = tokens(self.text)
        self.kernels = kernels(words)
        plans.check(self.plan, self.kernels, words)

    def program(self) -> Program:
        """Builds it. EmitError if the compiler refuses the text; UsageError if there is no compiler."""
        compiler = cxx(self.compiler)
        return build(self.text, compiler, self.checks, flags(compiler, self.checks))

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """The results for arrays in the order and of the types and sizes of the plan. EmitError with what a kernel did
        wrong; UsageError for arrays that do not fit."""
        program = self.program()
        with tempfile.TemporaryDirectory(prefix="cincel-metal-") as name:
            scratch = Path(name)
            self._write_inputs(arrays, scratch)
            (scratch / "run.txt").write_text(plans.description(self.plan, self.kernels), encoding="utf-8")
            weights = (self.folder / self.plan["weights"]["file"]).resolve()
            command = [program.path, weights]
            done = subprocess.run(command, cwd=scratch, capture_output=True, check=False)  # noqa: S603  # just built
            if done.returncode:
                raise EmitError(self._fault(program, done.stdout.decode("utf-8", "replace"), done.returncode))
            return [_result(o, scratch / f"out{i}.bin") for i, o in enumerate(self.plan["outputs"])]

    def _write_inputs(self, arrays: Sequence[Array], scratch: Path) -> None:
        inputs = self.plan["inputs"]
        if len(arrays) != len(inputs):
            raise UsageError(f"{len(arrays)} arrays for {len(inputs)} inputs")
        sizes = {b["name"]: b["nbytes"] for b in self.plan["buffers"]}
        for i, (array, x) in enumerate(zip(arrays, inputs, strict=True)):
            if array.dtype != DTYPES[x["type"]] or max(array.nbytes, 1) != sizes[x["buffer"]]:
                raise UsageError(f"input {x['name']}: {array.dtype}{[*array.shape]} given for {x['type']}{x['shape']}")
            (scratch / f"in{i}.bin").write_bytes(np.ascontiguousarray(array).tobytes() or b"\0")

    def _fault(self, program: Program, told: str, code: int) -> str:
        """The sentence of the program, with the line of the text."""
        last = told.strip().splitlines()[-1:] or [""]
        if not last[0].startswith("fault "):
            return f"the kernels broke off with status {code}" + ("" if self.checks else "; run them with checks")
        _, address, line, sentence = last[0].split(" ", 3)
        found = int(line) or (program.line(address) if address != "0" else 0)
        return f"{sentence} (line {found} of model.metal)" if found else sentence


def _result(output: plans.Plan, file: Path) -> Array:
    elements = np.fromfile(file, DTYPES[output["type"]])
    if not output.get("sizes"):
        return elements.reshape(output["shape"])
    return elements.reshape(np.fromfile(file.with_suffix(".sizes"), np.int64).tolist())

"""Libraries of .tflite files, built for this machine and for aarch64, and whether they agree with the integer
evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler.tensor import Array
from targets.neon.build import Toolchain, build, emulated, native, run
from targets.neon.emit import write_library
from targets.neon.int8.emit import lowered, objections
from targets.tflite.integer import IntegerModel
from targets.tflite.reader import read
from tests.targets.neon_kernels import WARNINGS

CPUS = {"base": "cortex-a72", "dotprod": "neoverse-n1", "i8mm": "max"}


def toolchains(*variants: str) -> list[Toolchain]:
    """What the machine has, with every warning an error: natively, and emulated processors of some generations."""
    checked = ("-O0", "-fsanitize=undefined", "-fno-sanitize-recover", *WARNINGS)
    found = [native(checked), *(emulated(("-O2", "-static", *WARNINGS), CPUS[v]) for v in variants)]
    return [t for t in found if t is not None]


def library(path: Path, to: Path, isa: str = "auto") -> Path:
    """The library of a file; all of it has to be supported."""
    file = read(path)
    assert objections(file) == []
    model = IntegerModel(path)
    write_library(lowered(file, isa, list(model.inputs), list(model.outputs)), "test", to)
    return to


def assert_exact(
    path: Path,
    feeds: Sequence[Mapping[str, Array]],
    tmp: Path,
    isa: str = "auto",
    variants: Sequence[str] = tuple(CPUS),
) -> None:
    """The library and the evaluator agree on every bit, on each processor."""
    model = IntegerModel(path)
    folder = library(path, tmp / "library", isa)
    programs: dict[tuple[str, ...], Path] = {}
    for tools in toolchains(*variants):
        scratch = tmp / str(len(programs))
        program = programs.get(tuple(tools.compiler))
        if program is None:
            scratch.mkdir()
            program = programs[tuple(tools.compiler)] = build(folder, tools, scratch)
        scratch = program.parent
        for given in feeds:
            files = []
            for i, name in enumerate(model.inputs):
                files.append(scratch / f"in{i}.bin")
                files[-1].write_bytes(np.ascontiguousarray(given[name]).tobytes())
            run(program, tools, folder, files, scratch)
            for i, (name, expected) in enumerate(model.run(given).items()):
                got = np.fromfile(scratch / f"{i}.bin", expected.dtype)[: expected.size]
                np.testing.assert_array_equal(got, expected.reshape(-1), f"{name} on {tools.label} {tools.runs}")

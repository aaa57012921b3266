"""Runs generated kernels by themselves: natively through the twin of NEON, and as they are under an emulator. Each
buffer ends right before a page that nobody may touch, so that reads beyond the end are errors as writes are."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codegen.library import Library, sources
from codegen.program import Kernel
from compiler.tensor import Array
from targets.neon.build import Toolchain, emulated, native

WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")

MAIN = """#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "kernels.h"

static void *guarded(size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (size + page - 1) / page * page;
    unsigned char *p = mmap(NULL, room + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p, page, PROT_NONE) || mprotect(p + page + room, page, PROT_NONE))
        exit(9);
    return p + page + room - size;
}

static void *given(FILE *file, size_t size)
{
    void *p = guarded(size);
    if (fread(p, 1, size, file) != size)
        exit(8);
    return p;
}

int main(int argc, char **argv)
{
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[argc - 1], "wb");
    if (!in || !out)
        return 7;
%s
    return fclose(out) ? 6 : 0;
}
"""


class Case(NamedTuple):
    """A call of a kernel: arrays that it reads, an array in the place of its result, which it replaces, and numbers,
    in the order of its parameters."""

    kernel: Kernel
    arguments: Sequence[Array | int]
    results: Sequence[int]  # which arguments are written


def toolchains() -> list[Toolchain]:
    """What the machine has, with every warning an error."""
    checked = ("-O0", "-fsanitize=undefined", "-fno-sanitize-recover")
    found = [native((*checked, *WARNINGS)), emulated(("-O2", "-static", *WARNINGS), "max")]
    return [t for t in found if t is not None]


def run_cases(cases: Sequence[Case], tools: Toolchain) -> list[list[Array]]:
    """The results of each case. AssertionError if the program does not build, or fails."""
    kernels: dict[Kernel, None] = {}
    for case in cases:
        _collect(case.kernel, kernels)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = Library("t", "t", [], list(kernels), [], [], [], 0, [], 0)
        for file, text in sources(library).items():
            if file not in ("model.c", "runner.c"):
                (folder / file).write_text(text, encoding="utf-8")
        (folder / "main.c").write_text(MAIN % "\n".join(_call(c) for c in cases))
        arrays = [a for c in cases for a in c.arguments if isinstance(a, np.ndarray)]
        (folder / "in").write_bytes(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays))
        program = folder / "program"
        built = [*tools.compiler, "-o", str(program), *map(str, sorted(folder.glob("*.c"))), "-lm"]
        done = subprocess.run(built, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:3000]
        ran = subprocess.run(
            [*tools.runs, str(program), str(folder / "in"), str(folder / "out")], capture_output=True, check=False
        )
        assert ran.returncode == 0, f"exit code {ran.returncode}: a kernel left its buffers"
        return _results(cases, (folder / "out").read_bytes())


def _collect(kernel: Kernel, found: dict[Kernel, None]) -> None:
    for needed in kernel.needs:
        _collect(needed, found)
    found[kernel] = None


def _call(case: Case) -> str:
    lines, arguments, writes = ["    {"], [], []
    for i, (a, parameter) in enumerate(zip(case.arguments, case.kernel.parameters, strict=True)):
        if isinstance(a, np.ndarray):
            lines.append(f"        {parameter.ctype.replace('const ', '')}a{i} = given(in, {a.nbytes});")
            arguments.append(f"a{i}")
            if i in case.results:
                writes.append(f"        fwrite(a{i}, 1, {a.nbytes}, out);")
        else:
            arguments.append(str(a))
    return "\n".join([*lines, f"        {case.kernel.name}({', '.join(arguments)});", *writes, "    }"])


def _results(cases: Sequence[Case], data: bytes) -> list[list[Array]]:
    made: list[list[Array]] = []
    at = 0
    for case in cases:
        made.append([])
        for i in case.results:
            like = case.arguments[i]
            assert isinstance(like, np.ndarray)
            made[-1].append(np.frombuffer(data, like.dtype, like.size, at).reshape(like.shape))
            at += like.nbytes
    return made

"""The peers of the suite `neon`, as their aarch64 wheels run under the emulator."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime

from benchmarks import neon_count, neon_sysroot
from benchmarks.neon_cases import Case, processors, source, values
from benchmarks.neon_count import CPUS
from benchmarks.neon_files import peer_file
from benchmarks.neon_results import Counted
from benchmarks.peers import HERE
from compiler.errors import CompileError
from compiler.tensor import Array

DRIVER = HERE / "foreign" / "neon_peer.py"
WINDOWS = 3


class Count(NamedTuple):
    """Of a case on a kind of processor; `snr_db` tells how near its result is to that of floats."""

    case: Case
    processor: str
    counted: Counted | None
    snr_db: float | None = None
    error: str | None = None


def counts(tool: str, cases: Sequence[Case], cache: Path, to: Path) -> Iterator[Count]:
    """All cases in one run for each kind of processor: such a run starts with seconds of imports."""
    files: dict[Case, Path] = {}
    for case in cases:
        try:
            files[case] = peer_file(case, tool, cache, to / case.model)
        except (CompileError, OSError, subprocess.CalledProcessError) as e:
            yield from (Count(case, p, None, error=str(e)[:200]) for p in processors(case))
    for processor in dict.fromkeys(p for case in files for p in processors(case)):
        yield from _run(tool, {c: f for c, f in files.items() if processor in processors(c)}, processor, cache, to)


def _run(tool: str, files: Mapping[Case, Path], processor: str, cache: Path, to: Path) -> Iterator[Count]:
    flags, python = neon_sysroot.command(neon_sysroot.ensure(cache))
    arguments = []
    for number, (case, file) in enumerate(files.items()):
        values(case).tofile(to / f"x{number}.bin")
        arguments += [str(file), "x".join(map(str, case.shape)), str(case.runs)]
    command = [*python, str(DRIVER), tool, str(to), str(WINDOWS), *arguments]
    try:
        marks = neon_count.emulated(command, CPUS[processor], flags)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as e:
        reason = (str(e.stderr).strip().splitlines() or [str(e)])[-1][:200]
        yield from (Count(case, processor, None, error=reason) for case in files)
        return
    for number, case in enumerate(files):
        own = marks[number * (WINDOWS + 1) : (number + 1) * (WINDOWS + 1)]
        windows = [neon_count.difference(a, b, case.runs) for a, b in itertools.pairwise(own)]
        snr = agreement(case, np.fromfile(to / f"{number}.bin", np.float32), cache)
        yield Count(case, processor, neon_count.median(windows), snr)


def agreement(case: Case, found: Array, cache: Path) -> float:
    """How near a result is to ONNX Runtime's on the same values in floats: 10 log10 of the squares' ratio."""
    session = onnxruntime.InferenceSession(source(case, cache))
    wanted = session.run(None, {session.get_inputs()[0].name: values(case)})[0].astype(np.float64).reshape(-1)
    error = np.square(found.reshape(-1) - wanted).sum()
    return float(10 * np.log10(np.square(wanted).sum() / max(error, 1e-30)))

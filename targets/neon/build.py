"""Builds and runs a generated library: natively, with the portable twin of NEON where the machine has none, or for
aarch64 under an emulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from compiler.errors import UsageError

CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
HINT = "install gcc, or gcc-aarch64-linux-gnu and qemu-user; --verify off goes without"
RUN_ON = ("auto", "native", "qemu")
EMULATED_MACS = 50_000_000  # up to which an emulator takes seconds
MARK = "cincel.json"  # of a folder that holds a library: what there is to know of it
ARM = ("aarch64", "arm64")


class Toolchain(NamedTuple):
    """A compiler with its flags, the command before the program that it makes, and words for what that runs on."""

    compiler: Sequence[str]
    runs: Sequence[str]
    label: str = ""


def native(flags: Sequence[str] = ("-O2",)) -> Toolchain | None:
    """The compiler of this machine; None if it has none."""
    found = next((c for c in (os.environ.get("CC"), "cc", "gcc", "clang") if c and shutil.which(c)), None)
    if found is None:
        return None
    label = "this processor" if is_arm((found,)) else "this processor, with the portable twin of NEON"
    return Toolchain([found, *flags], [], label)


def emulated(flags: Sequence[str] = ("-O3", "-static"), cpu: str = "max") -> Toolchain | None:
    """aarch64 under qemu; None if the tools are not there."""
    if not shutil.which(CROSS) or not shutil.which(EMULATOR):
        return None
    return Toolchain([CROSS, *flags], [EMULATOR, "-cpu", cpu], f"aarch64 under {EMULATOR}")


def toolchain(run_on: str = "auto", macs: int = 0) -> Toolchain:
    """What was asked for. UsageError if it is not there.

    auto: what ships is assembly for Arm, so that an Arm processor is best, then an emulator, for models with so many
    multiply-accumulates that it takes seconds; for others the portable twin, which is as good as it gets if there is
    but one of them.
    """
    here = native() if run_on != "qemu" else None
    is_twin = here is None or not is_arm((here.compiler[0],))
    there = emulated() if run_on == "qemu" or (run_on == "auto" and is_twin) else None
    found = there or here
    if here is not None and there is not None and macs > EMULATED_MACS:
        found = here._replace(label=f"{here.label} (--run-on qemu runs the assembly, which takes an emulator long)")
    if found is None:
        missing = {"qemu": f"no {CROSS} or {EMULATOR}"}.get(run_on, "no C compiler")
        raise UsageError(f"there is {missing} to build and run the generated library with", hint=HINT)
    return found


@cache
def is_arm(compiler: tuple[str, ...]) -> bool:
    """Whether a compiler writes code for aarch64."""
    done = subprocess.run([*compiler, "-dumpmachine"], capture_output=True, text=True, check=False)  # noqa: S603  # the user's compiler
    return done.stdout.startswith(ARM)


def build(folder: Path, tools: Toolchain, to: Path) -> Path:
    """The runner of a library. UsageError with what the compiler says, if it fails."""
    program = to / "runner"
    known = json.loads((folder / MARK).read_text(encoding="utf-8"))
    march = known["march"] if is_arm((tools.compiler[0],)) else {}
    objects = []
    for file in sorted([*folder.glob("*.c"), *folder.glob("*.S")]):
        objects.append(str(to / f"{file.stem}.o"))
        flags = ["-std=c11", f"-D{known['name'].upper()}_PROFILE", *([march[file.name]] if file.name in march else [])]
        _compile([*tools.compiler, *flags, "-c", "-o", objects[-1], file.name], folder)
    _compile([*tools.compiler, "-o", str(program), *objects, "-pthread", "-lm"], folder)
    return program


def _compile(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)  # noqa: S603  # our own sources, by a compiler of the user's
    if done.returncode:
        raise UsageError(f"the generated library does not build: {done.stderr.strip()[:400]}", hint=HINT)


def run(
    program: Path, tools: Toolchain, folder: Path, inputs: Sequence[Path], to: Path, flags: Sequence[str] = ()
) -> str:
    """Run the runner on files of raw tensors; results are `to`/0.bin, ... What it prints. UsageError if it fails."""
    weights = folder / "weights.bin"
    given = ["--weights", str(weights)] if weights.is_file() else []
    done = subprocess.run(  # noqa: S603  # the program that was just built
        [*tools.runs, str(program), *map(str, inputs), "--out-dir", str(to), *given, *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip()[:400] or "it was ended"
        raise UsageError(f"the generated library failed: {reason} (exit code {done.returncode})")
    return done.stdout

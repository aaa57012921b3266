"""Builds a program from a text of Metal Shading Language: the text with callers of its kernels, and what runs them."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from compiler.errors import CompileError, EmitError, UsageError
from targets.metal.execute.driver import HOST, driver
from targets.metal.execute.text import kernels, portable, tokens

_COMMON = (
    *("-std=c++17", "-fPIE", "-fno-exceptions", "-fno-rtti", "-fno-math-errno", "-ffp-contract=off"),
    *("-fsigned-char", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-Wno-unknown-pragmas"),
)
_GCC = ("-fsingle-precision-constant", "-Wno-attributes")
_GCC_CHECKS = ("-fno-tree-vectorize", "--param=tsan-instrument-func-entry-exit=0")
_CLANG = ("-Xclang", "-cl-single-precision-constant", "-Wno-unknown-attributes", "-Wno-ignored-attributes")
_CLANG_CHECKS = (
    *("-mllvm", "-tsan-instrument-read-before-write=1", "-mllvm", "-tsan-instrument-func-entry-exit=0"),
    *("-fno-vectorize", "-fno-slp-vectorize"),
)
# Accesses call functions of ours (run_hooks.h); -gdwarf-4 because addr2line misreads the lines of clang's DWARF 5.
_CHECKS = ("-O1", "-fsanitize=thread,alignment,bounds,integer-divide-by-zero", "-g1", "-gdwarf-4")
_WRAPPED = [f"-Wl,--wrap={f}" for f in ("memcpy", "memmove", "memset")]


@dataclass(frozen=True)
class Program:
    """A program, in a folder that goes when nothing refers to it, and what the compiler had to say of the text."""

    path: Path
    warnings: str

    def line(self, address: str) -> int:
        """The line of the text that an instruction came from; 0 if no tool can say."""
        tool = shutil.which("addr2line") or shutil.which("llvm-addr2line")
        if tool is None:
            return 0
        command = [tool, "-i", "-e", str(self.path), f"0x{address}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # a tool of the system
        for told in done.stdout.splitlines():
            path, _, rest = told.partition(" ")[0].rpartition(":")
            if path.endswith("model.metal") and rest.isdigit():
                return int(rest)
        return 0


def cxx(name: str | None = None) -> str:
    """A C++ compiler: the one named, $CXX, g++ or clang++. UsageError if there is none."""
    found = next((c for c in (name, os.environ.get("CXX"), "g++", "clang++") if c and shutil.which(c)), None)
    if found is None or (name and found != name):
        raise UsageError(
            f"there is no {name or 'C++ compiler'} to run Metal's source with",
            hint="install g++ 12 or clang++ 14, or newer",
        )
    return found


def flags(compiler: str, checks: bool) -> tuple[str, ...]:
    """How a text is compiled."""
    is_clang = "clang" in Path(compiler).name
    made = (*_COMMON, *native(compiler), *(_CLANG if is_clang else _GCC), "-Wall", "-Wextra")
    return (*made, *_CHECKS, *(_CLANG_CHECKS if is_clang else _GCC_CHECKS)) if checks else (*made, "-O2")


@cache
def native(compiler: str) -> tuple[str, ...]:
    """Instructions of this processor, if the compiler knows how to ask for them."""
    command = [compiler, "-march=native", "-E", "-x", "c++", os.devnull]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603  # the user's compiler
    return () if done.returncode else ("-march=native",)


@lru_cache(maxsize=64)
def build(text: str, compiler: str, checks: bool, how: tuple[str, ...]) -> Program:
    """The program that runs plans of a text. EmitError if the compiler refuses it."""
    folder = Path(tempfile.mkdtemp(prefix="cincel-metal-"))
    try:
        (folder / "model.metal").write_text(portable(text), encoding="utf-8")
        (folder / "main.cpp").write_text(driver(kernels(tokens(text))), encoding="utf-8")
        warnings = _compile([compiler, *how, "-c", "-o", "main.o", "main.cpp"], folder)
        parts = ["main.o", str(_runtime(compiler, checks)), *(_WRAPPED if checks else ()), "-lm"]
        _compile([compiler, "-pie", "-o", "program", *parts], folder)
    except CompileError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    made = Program(folder / "program", warnings)
    weakref.finalize(made, shutil.rmtree, folder, ignore_errors=True)
    return made


@cache
def _scratch() -> Path:
    """A folder that goes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="cincel-metal-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _runtime(compiler: str, checks: bool) -> Path:
    """The part of the program that knows nothing of a text, compiled once."""
    to = _scratch() / f"{Path(compiler).name}-{int(checks)}.o"
    how = [*_COMMON, *native(compiler), "-O2", *(["-DHOST_CHECKS"] if checks else [])]
    _compile([compiler, *how, "-c", "-o", str(to), str(HOST / "program.cpp")], to.parent)
    return to


def _compile(command: Sequence[str], folder: Path) -> str:
    """What a compiler says. EmitError if it fails."""
    done = subprocess.run([*command, "-I", str(HOST)], capture_output=True, text=True, check=False, cwd=folder)  # noqa: S603  # our own sources, by a compiler of the user's
    if done.returncode:
        said = done.stderr.strip().splitlines()
        first = next((line for line in said if "error" in line), said[0] if said else "it said nothing")
        raise EmitError(f"the text of the kernels is not accepted: {first.removeprefix('./')[:400]}")
    return done.stderr

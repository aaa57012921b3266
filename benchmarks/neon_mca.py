"""Inner loops of a built library by llvm-mca: how near they come to what a core can issue."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from benchmarks.neon_results import Loop

MCA = "llvm-mca-19"
OBJDUMP = "aarch64-linux-gnu-objdump"
CORES = ("neoverse-n1", "neoverse-n2", "neoverse-v1")
MATRIX_CORES = ("neoverse-n2", "neoverse-v1")  # those of them that multiply matrices of bytes
IN_ORDER = "cortex-a55"
TURNS = 200
INDEPENDENT = 24
LEAST = 8  # multiply-accumulates of a loop that is looked at
_MAC = re.compile(r"(?:fmla|fmls|[su]dot|usdot|[su]mmla|usmmla|[su]mlal2?|[su]mull2?)\s+v")
_LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")
_BRANCH = re.compile(r"^((?:b(?:\.\w+)?|cbn?z|tbn?z)\s+(?:[^<]*,\s*)?)([0-9a-f]+) <.*$")
_REGISTER = re.compile(r"v\d+(?=\.)")


class Line(NamedTuple):
    """An instruction, and where it branches to."""

    address: int
    text: str
    target: int | None


def missing() -> str | None:
    """What keeps this machine from looking at loops."""
    absent = [tool for tool in (MCA, OBJDUMP) if not shutil.which(tool)]
    return f"no {' and no '.join(absent)}" if absent else None


def loops_of(program: Path, functions: Iterable[str], cores: Sequence[str]) -> list[Loop]:
    """The inner loop with the most multiply-accumulates of each function that has one, for each core."""
    found = []
    for function in functions:
        body = inner_loop(disassembled(program, function))
        able = MATRIX_CORES if any("mmla" in line for line in body) else cores
        found += [measured(function, body, core) for core in cores if body and core in able]
    return found


def disassembled(program: Path, function: str) -> list[Line]:
    command = [OBJDUMP, "-d", "--no-show-raw-insn", f"--disassemble={function}", str(program)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = []
    for row in text.splitlines():
        match = _LINE.match(row.partition("//")[0].rstrip())
        if match:
            branch = _BRANCH.match(match[2])
            target = int(branch[2], 16) if branch else None
            lines.append(Line(int(match[1], 16), f"{branch[1]}#-64" if branch else match[2], target))
    return lines


def inner_loop(lines: Sequence[Line]) -> list[str]:
    """Of the loops that hold no other, the one with the most multiply-accumulates; empty if all have few."""
    place = {line.address: i for i, line in enumerate(lines)}
    spans = [
        (place[line.target], i) for i, line in enumerate(lines) if line.target in place and place[line.target] <= i
    ]
    inner = [s for s in spans if not any(s != t and s[0] <= t[0] and t[1] <= s[1] for t in spans)]
    bodies = [[line.text for line in lines[first : last + 1]] for first, last in inner]
    best = max(bodies, key=macs, default=[])
    return best if macs(best) >= LEAST else []


def macs(body: Sequence[str]) -> int:
    """How many instructions of a loop multiply and accumulate."""
    return sum(bool(_MAC.match(line)) for line in body)


def measured(function: str, body: Sequence[str], core: str) -> Loop:
    cycles, bound = _simulated(tuple(body), core)
    first = next(line for line in body if _MAC.match(line))
    _, peak = _simulated(tuple(_independent(first)), core)
    return Loop(
        function, core, len(body), cycles, round(macs(body) / cycles * peak / INDEPENDENT, 4), round(bound / cycles, 4)
    )


def _independent(line: str) -> list[str]:
    """The same instruction for as many results, none of which waits for another."""
    made = []
    for i in range(INDEPENDENT):
        names = iter((f"v{i + 1}", "v30", "v0"))
        made.append(_REGISTER.sub(lambda _, names=names: next(names), line))  # type: ignore[misc]  # mypy: of a lambda
    return made


@cache
def _simulated(body: tuple[str, ...], core: str) -> tuple[float, float]:
    """Cycles of a turn, and what they would be if nothing waited."""
    command = [MCA, "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={TURNS}", "-mattr=+dotprod,+fullfp16,+i8mm"]
    text = "\n".join(body) + "\n"
    told = subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout
    cycles, bound = (re.search(rf"{what}:\s+([\d.]+)", told) for what in ("Total Cycles", "Block RThroughput"))
    assert cycles is not None and bound is not None
    return int(cycles[1]) / TURNS, float(bound[1])

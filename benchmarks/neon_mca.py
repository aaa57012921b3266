"""Inner loops of a built library by llvm-mca: how near they come to what a core can issue."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
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
ROUNDED = 1.005  # what llvm-mca rounds
SHARE = 0.25  # of those of the function's largest loop, at least
PIPES = {"L": "loads", "Ld": "loads", "St": "stores", "V": "arithmetic", "FPALU": "arithmetic", "FPMAC": "arithmetic"}
"""What kinds of units of LLVM's models do."""
_MAC = re.compile(r"(?:fmla|fmls|[su]dot|usdot|[su]mmla|usmmla|[su]mlal2?|[su]mull2?)\s+v")
_LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")
_BRANCH = re.compile(r"^((?:b(?:\.\w+)?|cbn?z|tbn?z)\s+(?:[^<]*,\s*)?)([0-9a-f]+) <.*$")
_REGISTER = re.compile(r"v\d+(?=\.)")
_UNIT = re.compile(r"Unit([A-Za-z]+)")


class Line(NamedTuple):
    """An instruction, and where it branches to."""

    address: int
    text: str
    target: int | None


def missing() -> str | None:
    """What keeps this machine from looking at loops."""
    absent = [tool for tool in (MCA, OBJDUMP) if not shutil.which(tool)]
    return f"no {' and no '.join(absent)}" if absent else None


class Simulated(NamedTuple):
    """Cycles of a turn, the least that they could be if nothing waited, and what would be full then."""

    cycles: float
    least: float
    limit: str


def loops_of(program: Path, functions: Iterable[str], cores: Sequence[str]) -> list[Loop]:
    """The inner loops of each function, for each core."""
    found = []
    for function in functions:
        for i, body in enumerate(inner_loops(disassembled(program, function))):
            able = MATRIX_CORES if any("mmla" in line for line in body) else cores
            name = f"{function}, loop {i + 1}" if i else function
            found += [measured(name, body, core) for core in cores if core in able]
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


def inner_loops(lines: Sequence[Line], least: int = LEAST) -> list[list[str]]:
    """The loops that hold no other, those with the most multiply-accumulates first, without those that have few."""
    place = {line.address: i for i, line in enumerate(lines)}
    spans = [
        (place[line.target], i) for i, line in enumerate(lines) if line.target in place and place[line.target] <= i
    ]
    inner = [s for s in spans if not any(s != t and s[0] <= t[0] and t[1] <= s[1] for t in spans)]
    bodies = dict.fromkeys(tuple(line.text for line in lines[first : last + 1]) for first, last in inner)
    found = sorted(map(list, bodies), key=lambda body: -macs(body))
    return [body for body in found if macs(body) >= max(least, SHARE * macs(found[0]))]


def macs(body: Sequence[str]) -> int:
    """How many instructions of a loop multiply and accumulate."""
    return sum(bool(_MAC.match(line)) for line in body)


def measured(function: str, body: Sequence[str], core: str) -> Loop:
    found = simulated(tuple(body), core)
    first = next(line for line in body if _MAC.match(line))
    peak = INDEPENDENT / simulated(tuple(_independent(first)), core).least
    share, bound = macs(body) / found.cycles / peak, found.least / found.cycles
    return Loop(function, core, len(body), found.cycles, round(share, 4), round(bound, 4), found.limit)


def _independent(line: str) -> list[str]:
    """The same instruction for as many results, none of which waits for another."""
    made = []
    for i in range(INDEPENDENT):
        names = iter((f"v{i + 1}", "v30", "v0"))
        made.append(_REGISTER.sub(lambda _, names=names: next(names), line))  # type: ignore[misc]  # mypy: of a lambda
    return made


@cache
def simulated(body: tuple[str, ...], core: str) -> Simulated:
    """A loop by llvm-mca. What is full are the units of a kind, on average, or what is issued, or some of the units
    that a mix of instructions needs."""
    command = [MCA, "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={TURNS}", "-mattr=+dotprod,+fullfp16,+i8mm"]
    text = "\n".join(body) + "\n"
    told = json.loads(
        subprocess.run([*command, "--json"], input=text, check=True, capture_output=True, text=True).stdout
    )
    (region,) = told["CodeRegions"]
    summary = region["SummaryView"]
    kinds = [_UNIT.findall(name)[0] for name in told["TargetInfo"]["Resources"]]
    busy = Counter[str]()
    for use in region["ResourcePressureView"]["ResourcePressureInfo"]:
        if use["InstructionIndex"] == len(body):  # of all together
            kind = kinds[use["ResourceIndex"]]
            busy[kind] += use["ResourceUsage"] / kinds.count(kind)
    limits = {"issue": summary["TotaluOps"] / TURNS / summary["DispatchWidth"]}
    for kind, cycles in busy.items():
        name = PIPES.get(kind, kind)
        limits[name] = max(limits.get(name, 0.0), cycles)
    mix, (limit, least) = summary["BlockRThroughput"], max(limits.items(), key=lambda item: item[1])
    if mix > ROUNDED * least:
        limit, least = "mix", mix
    return Simulated(summary["TotalCycles"] / TURNS, least, limit)

"""Executed instructions of aarch64 programs, by class: under qemu, with the plugin `qemu/instructions.c`."""

from __future__ import annotations

import atexit
import bisect
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from benchmarks.neon_results import Counted
from benchmarks.peers import HERE
from targets.neon.build import CROSS, EMULATOR

SOURCE = HERE / "qemu" / "instructions.c"
DOTPROD, I8MM = "neoverse-n1", "max,sve=off,sme=off,pauth=off"
CPUS = {"dotprod": DOTPROD, "i8mm": I8MM}
"""Emulated processors: one with dot products and arithmetic of 16-bit floats, and one that multiplies matrices of bytes
too, without SVE, of which we and some peers make no use."""
NM = "aarch64-linux-gnu-nm"
TIMEOUT_S = 600.0

Counts = dict[str, float]


def missing() -> str | None:
    """What keeps this machine from counting; None if nothing does."""
    absent = [tool for tool in (CROSS, EMULATOR, "cc") if not shutil.which(tool)]
    if absent:
        return f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed"
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, program = Path(folder) / "empty.c", Path(folder) / "empty"
            source.write_text("int main(void) { return 0; }", encoding="utf-8")
            subprocess.run([CROSS, "-static", "-o", str(program), str(source)], check=True, capture_output=True)
            emulated([str(program)], DOTPROD)
    except (subprocess.CalledProcessError, OSError) as e:
        return f"programs are not counted here: {getattr(e, 'stderr', '') or e}"
    return None


def versions() -> dict[str, str]:
    """Of what counts, and of what compiles our libraries."""
    gcc = subprocess.run([CROSS, "-dumpfullversion"], check=True, capture_output=True, text=True).stdout.strip()
    told = subprocess.run([EMULATOR, "--version"], check=True, capture_output=True, text=True).stdout
    return {"gcc for aarch64": gcc, "qemu": told.split()[2]}


@cache
def plugin() -> Path:
    """The plugin, built once per process."""
    built = Path(tempfile.mkdtemp(prefix="cincel-qemu-")) / "instructions.so"
    atexit.register(shutil.rmtree, built.parent, ignore_errors=True)
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(built), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return built


def emulated(
    command: Sequence[str], cpu: str, flags: Sequence[str] = (), blocks: Path | None = None
) -> list[dict[str, int]]:
    """The counts of a program at each of its marks, and at its end. CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts"
        asked = f"{plugin()},out={out}" + (f",blocks={blocks}" if blocks else "")
        subprocess.run(
            [EMULATOR, "-cpu", cpu, "-plugin", asked, *flags, *command],
            check=True, capture_output=True, text=True, timeout=TIMEOUT_S, env=os.environ | {"LC_ALL": "C"},
        )  # fmt: skip
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def difference(less: Mapping[str, int], more: Mapping[str, int], runs: int) -> Counts:
    """What each of so many runs adds."""
    return {name: (more[name] - less[name]) / runs for name in more}


def per_run(program: Sequence[str], cpu: str, least: int = 1, runs: int = 2) -> Counts:
    """Of one inference by a runner: `runs` more of them than `least` take so much more."""
    less, more = (emulated([*program, "--repeat", str(n)], cpu)[-1] for n in (least, least + runs))
    return difference(less, more, runs)


def median(found: Sequence[Counts]) -> Counted:
    """The measurement in the middle, by the sum."""
    ordered = sorted(found, key=lambda counts: sum(counts.values()))
    totals = [sum(counts.values()) for counts in ordered]
    return Counted(ordered[len(ordered) // 2], (totals[-1] - totals[0]) / statistics.median(totals))


def by_function(program: Sequence[str], cpu: str, least: int = 1, runs: int = 2) -> dict[str, float]:
    """Instructions of one inference by the function of a static program, the most first."""
    symbols = _symbols(Path(program[0]))
    addresses = [address for address, _ in symbols]
    found: list[Counter[str]] = []
    for n in (least, least + runs):
        with tempfile.TemporaryDirectory() as folder:
            blocks = Path(folder) / "blocks"
            emulated([*program, "--repeat", str(n)], cpu, blocks=blocks)
            counts: Counter[str] = Counter()
            for line in blocks.read_text(encoding="utf-8").splitlines():
                address, instructions, executed = map(int, line.split())
                place = bisect.bisect_right(addresses, address) - 1
                counts[symbols[place][1] if place >= 0 else "?"] += instructions * executed
            found.append(counts)
    less, more = found
    spent = {name: (more[name] - less[name]) / runs for name in more}
    return {name: n for name, n in sorted(spent.items(), key=lambda item: -item[1]) if n > 0}


def _symbols(program: Path) -> list[tuple[int, str]]:
    """Functions of a program, by address."""
    done = subprocess.run([NM, str(program)], check=True, capture_output=True, text=True)
    rows = (line.split() for line in done.stdout.splitlines())
    return sorted((int(row[0], 16), row[2]) for row in rows if len(row) == 3 and row[1] in "tTwW" and row[2][0] != "$")

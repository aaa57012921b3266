"""Running the commands that are measured, and modules of this package in processes of their own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Cost, measure
from benchmarks.peers import ROOT

TIMEOUT_S = 900.0
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # idle threads of numpy spin and disturb timings
LOG = "log.txt"
_RAISED = re.compile(r"[\w.]+(Error|Exception|Fail): ")


def run_command(argv: Sequence[str], folder: Path, timeout_s: float = TIMEOUT_S) -> Cost:
    """One measured run, whose output and log go to a folder that is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return measure(argv, folder / LOG, timeout_s, cwd=ROOT)


def reason(log: Path, cost: Cost, first: bool = False) -> str:
    """The line of the log that says most about why the command failed: the last about an error, or the first of a
    chain of exceptions."""
    if cost.exit_code is None:
        return f"stopped after {cost.wall_s:.0f} s"
    text = log.read_text(errors="replace").replace(str(ROOT), ".")
    stripped = (line.strip() for line in text.splitlines())
    lines = [line for line in stripped if line and not line.startswith("hint:")]
    telling = [line for line in lines if any(word in line for word in ("rror", "not supported", "node(s)"))]
    raised = [line for line in lines if _RAISED.match(line)]
    return raised[0][:160] if first and raised else (telling or lines or ["no message"])[-1][:120]


def run_module(name: str, *arguments: str, must: bool = True, one_thread: bool = False) -> str:
    """Standard output of a module of this package; empty if it failed and did not have to succeed."""
    argv = [sys.executable, "-m", name, *arguments]
    environment = os.environ | (ONE_THREAD if one_thread else {})
    done = subprocess.run(argv, cwd=ROOT, check=must, stdout=subprocess.PIPE, text=True, env=environment)
    return done.stdout if done.returncode == 0 else ""

"""CPU time and peak memory of one whole command.

Kept free of heavy imports on purpose: between `vfork` and `exec` a child shares the memory of its parent, and Linux
carries that size over as the child's first peak, so a large parent would put a floor under every figure.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a command took.

    `cpu_s` is user plus system time of the process and of every child it waited for; `peak_rss` is the resident peak
    in bytes of the largest single process among them, file-backed pages included. `exit_code` is None on time-out.
    """

    exit_code: int | None
    cpu_s: float
    wall_s: float
    peak_rss: int


def measure(argv: Sequence[str], log: Path, timeout_s: float, cwd: Path | None = None) -> Cost:
    """Run `argv` with its output in `log`; its whole process group is killed after `timeout_s` of wall time."""
    start = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=_environment(),
            start_new_session=True,
        )
        finished, status, usage = os.wait4(process.pid, os.WNOHANG)
        timed_out = False
        while not finished:
            timed_out = time.perf_counter() - start > timeout_s
            if timed_out:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                time.sleep(_POLL_S)
            finished, status, usage = os.wait4(process.pid, 0 if timed_out else os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(
        exit_code=None if timed_out else process.returncode,
        cpu_s=usage.ru_utime + usage.ru_stime,
        wall_s=time.perf_counter() - start,
        peak_rss=usage.ru_maxrss * _RSS_UNIT,
    )


def _environment() -> dict[str, str]:
    """The caller's environment without Python's own settings and virtual environment, the same for every tool."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"}

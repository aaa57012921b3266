"""How cost grows with size, measured so that a busy machine does not matter much."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def cpu_seconds(prepare: Callable[[int], Callable[[], object]], size: int) -> float:
    """The least CPU time, of three runs, that what `prepare(size)` returns takes, without cyclic collection."""
    best = float("inf")
    for _ in range(3):
        work = prepare(size)
        gc.collect()
        gc.disable()
        try:
            started = time.process_time()
            work()
            best = min(best, time.process_time() - started)
        finally:
            gc.enable()
    return best


def assert_linear(prepare: Callable[[int], Callable[[], object]], size: int) -> None:
    """Eight times the size costs at most 20 times as much: far from the 64 of quadratic cost."""
    small, large = cpu_seconds(prepare, size), cpu_seconds(prepare, 8 * size)
    assert large < 20 * small + 0.05, f"{small:.3f} s for {size}, {large:.3f} s for {8 * size}"

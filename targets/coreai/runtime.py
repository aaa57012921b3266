"""Execution of a saved asset by Apple's runtime: that of the package on Linux, that of the system on macOS."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from compiler.errors import EmitError
from compiler.tensor import Array
from targets.coreai.program import ENTRY

PATIENCE = 2.0  # seconds


def execute(path: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of the asset `path`, by name, in the element types of its program. EmitError if the runtime cannot
    load or run it."""
    results: dict[str, Array] = {}
    failed: list[str] = []

    def work() -> None:
        with asyncio.Runner() as runner:
            held = weakref.ref(runner.get_loop())
            try:
                results.update(runner.run(_execute(path, feeds)))
            except Exception as e:  # noqa: BLE001  # the runtime raises classes of its own without a common base
                failed.append((str(e).splitlines() or [type(e).__name__])[0][:300])
        del runner
        _await_release(held)

    with _quiet():
        thread = threading.Thread(target=work)  # where the caller runs no loop of events
        thread.start()
        thread.join()
    if failed:
        raise EmitError(f"Apple's runtime cannot run {str(path)!r}: {failed[0]}")
    return results


def _await_release(held: weakref.ref[asyncio.AbstractEventLoop]) -> None:
    """Wait for the runtime's own threads to let go of the loop of events, which they do a little after they have
    answered. One that still needs the interpreter while it shuts down aborts the process. The loop itself stays: the
    runtime never releases the futures that it made."""
    end = time.monotonic() + PATIENCE
    while _is_held_outside(held) and time.monotonic() < end:
        time.sleep(0.001)


def _is_held_outside(held: weakref.ref[asyncio.AbstractEventLoop]) -> bool:
    """Whether an object has references that are not of objects of Python."""
    known, other = held(), _Referred()
    return known is not None and sys.getrefcount(known) - sys.getrefcount(other) > len(gc.get_referrers(known))


class _Referred:
    """Something with as many references as a frame makes."""


async def _execute(path: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    from coreai.authoring import AIModelAsset  # loads all of Apple's package
    from coreai.runtime import NDArray

    async with AIModelAsset.load(path).executable() as model:
        outputs = await model.load_function(ENTRY)({name: NDArray(a) for name, a in feeds.items()})
        return {name: np.array(value.numpy()) for name, value in outputs.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the line that the runtime logs for each function that it loads, past Python's own streams."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

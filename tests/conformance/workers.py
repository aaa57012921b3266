"""Cases in worker processes: a crash or a hang ends one stage of one case, not the run."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

from compiler.graph import Graph
from compiler.tensor import Array
from tests.conformance.cases import Case
from tests.conformance.disputed import DISPUTED as REASONS
from tests.conformance.disputed import judged
from tests.conformance.stages import (
    ABSENT,
    DISPUTED,
    FAIL,
    PASS,
    STAGES,
    Verdict,
    evaluated,
    executed,
    guarded,
    imported,
    original,
    worst,
)

CONTEXT = multiprocessing.get_context("fork")  # workers inherit the loaded cases
SECONDS = {"light": 600.0}  # one stage of one case may take this long
OTHERS = 60.0


class Outcome(NamedTuple):
    """What became of a case: a verdict per stage, and the inputs that were frozen."""

    case: Case
    verdicts: dict[str, Verdict]
    frozen: tuple[str, ...]
    seconds: float


class Result(NamedTuple):
    """What a worker sends for one stage."""

    stage: str
    verdict: Verdict
    frozen: tuple[str, ...]


class Trial:
    """One case on its way through the stages."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.disputed = case.key in REASONS
        self.case = judged(case)
        self.folder = folder
        self.imports: list[tuple[Graph, dict[str, Array]]] = []
        self.read = guarded(self._read)

    def _read(self) -> Verdict:
        self.imports = [imported(self.case, data) for data in self.case.data]
        return Verdict(PASS)

    @property
    def frozen(self) -> tuple[str, ...]:
        return tuple(sorted({name for _, constants in self.imports for name in constants}))

    def result(self, stage: str) -> Result:
        """What cannot be imported cannot be compiled either."""
        if stage != "original" and self.read.status != PASS:
            return Result(stage, self.read, ())
        verdict = worst([guarded(partial(self._run, stage, i)) for i in range(len(self.case.data))])
        if self.disputed and verdict.status == PASS:
            verdict = Verdict(DISPUTED)
        return Result(stage, verdict, self.frozen)

    def _run(self, stage: str, i: int) -> Verdict:
        data = self.case.data[i]
        if stage == "original":
            return original(self.case, data)
        graph, constants = self.imports[i]
        if stage == "import":
            return evaluated(self.case, data, graph)
        return executed(self.case, data, stage, constants, self.folder)


def _serve(pipe: Connection, cases: Sequence[Case], folder: Path, log: Path) -> None:
    """A worker: takes the number of a case and its stages, sends a result for each; `log` gets what libraries print."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    while (job := pipe.recv()) is not None:
        number, stages = job
        os.ftruncate(descriptor, 0)
        trial = Trial(cases[number], folder)
        for stage in stages:
            pipe.send(trial.result(stage))


class _Worker:
    """A process and the case that it is busy with."""

    def __init__(self, cases: Sequence[Case], folder: Path) -> None:
        self.cases, self.folder = cases, folder
        self.log = folder / "log"
        self._start()

    def _start(self) -> None:
        self.pipe, far = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(far, self.cases, self.folder, self.log), daemon=True)
        self.process.start()
        far.close()

    def give(self, number: int, stages: Sequence[str]) -> None:
        self.number, self.left = number, list(stages)
        self.verdicts: dict[str, Verdict] = {}
        self.frozen: tuple[str, ...] = ()
        self.begun = time.monotonic()
        self._send()

    def _send(self) -> None:
        self.deadline = time.monotonic() + SECONDS.get(self.cases[self.number].suite, OTHERS)
        self.pipe.send((self.number, self.left))

    def collect(self) -> Outcome | None:
        """The outcome once all stages are there; after a crash or beyond the deadline the process is replaced."""
        try:
            while self.left and self.pipe.poll():
                stage, verdict, self.frozen = self.pipe.recv()
                self.verdicts[stage] = verdict
                self.left.remove(stage)
                self.deadline = time.monotonic() + SECONDS.get(self.cases[self.number].suite, OTHERS)
            if self.left and time.monotonic() > self.deadline:
                self._replace("no result in time")
        except (EOFError, ConnectionError):
            self.process.join()
            said = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            self._replace(f"crash with exit code {self.process.exitcode}: {''.join(said)}")
        if self.left:
            return None
        return Outcome(self.cases[self.number], self.verdicts, self.frozen, time.monotonic() - self.begun)

    def _replace(self, reason: str) -> None:
        """FAIL the stage that was running (n/a if it is none of ours); those after it run in a new process."""
        self.stop()
        stage = self.left.pop(0)
        self.verdicts[stage] = Verdict(ABSENT if stage == "original" else FAIL, reason)
        self._start()
        if self.left:
            self._send()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def run_cases(
    cases: Sequence[Case],
    stages: Sequence[str] = STAGES,
    jobs: int = 0,
    tell: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """All outcomes in the order of the cases; `tell` hears each as soon as it is there. `jobs` is the number of
    processes, by default one per processor."""
    done: dict[int, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="cincel-conformance-") as root:
        workers = [_Worker(cases, folder) for folder in _folders(Path(root), jobs or os.cpu_count() or 1)]
        try:
            for number, outcome in _outcomes(workers, deque(range(len(cases))), stages):
                done[number] = outcome
                tell(outcome)
        finally:
            for worker in workers:
                worker.stop()
    return [done[i] for i in range(len(cases))]


def _folders(root: Path, count: int) -> Iterator[Path]:
    for i in range(count):
        folder = root / str(i)
        folder.mkdir()
        yield folder


def _outcomes(workers: Sequence[_Worker], todo: deque[int], stages: Sequence[str]) -> Iterator[tuple[int, Outcome]]:
    idle, busy = list(workers), list[_Worker]()
    while todo or busy:
        while idle and todo:
            busy.append(idle.pop())
            busy[-1].give(todo.popleft(), stages)
        wait([worker.pipe for worker in busy], timeout=1.0)
        for worker in list(busy):
            outcome = worker.collect()
            if outcome is not None:
                busy.remove(worker)
                idle.append(worker)
                yield worker.number, outcome

"""Measured results as JSON lines: one line on the machine, then one per suite, model and tool."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.measure import Cost
from benchmarks.neon_results import Counted, Loop


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and with what the figures were taken. `floor_rss` is the peak of an interpreter that imports numpy."""

    date: str
    system: str
    processor: str
    cores: int
    memory: int
    python: str
    versions: dict[str, str]
    load: float
    floor_rss: int


@dataclass(frozen=True, slots=True)
class Check:
    """What the artifact is, looked at after the measurement.

    `nodes` counts operations, nested graphs included, without constants, and `nodes_in` those of the original.
    `psnr_db` and `max_abs` are the worst over the outputs against ONNX Runtime on the original, None where the artifact
    was not executed; `error` says why it could not be.
    """

    nodes_in: int | None = None
    nodes: int | None = None
    constants: int | None = None
    operations: dict[str, int] = field(default_factory=dict)
    psnr_db: float | None = None
    max_abs: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """One invocation of an artifact; `ratio` is to the peer's, the median over rounds that ran both."""

    rounds: int
    median_ms: float
    least_ms: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Data of one model: `what` names the set, or is "random"; `bound` are the shapes given to one whose sizes are
    open."""

    what: str
    calibrate: int
    held: int
    labelled: bool
    inputs: dict[str, list[int]]
    bound: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Placed:
    """What the validator of .tflite files says of one for a device: operators, those on it, in how many partitions,
    codes of errors and how often, and the first operator that breaks a partition, with the reason."""

    kind: str
    operators: int
    on_device: int
    partitions: int
    errors: dict[str, int]
    breaker: str = ""


@dataclass(frozen=True, slots=True)
class Quality:
    """Rounded outputs on held rows against ONNX Runtime on the original.

    snr_db, worst_db   10 log10(sum of squares / sum of squared differences) of each output of floats over all rows: the
                       mean over the outputs, and the least; from -100 to 100 dB each
    top1, top1_float   percent of labelled rows, of the artifact and of the original; None without labels
    placed             by device, of .tflite files
    parts              bytes by what they are for, of .tflite files
    """

    rows: int
    snr_db: float | None = None
    worst_db: float | None = None
    top1: float | None = None
    top1_float: float | None = None
    placed: dict[str, Placed] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Of a model: parameters, those of dense layers alone, and multiply-accumulates of one row."""

    parameters: int
    dense: int
    macs: int


@dataclass(frozen=True, slots=True)
class Paired:
    """A compressed model and the one that it was made of, invoked in turn.

    before_ms, after_ms, wall        medians by the wall clock, and the median of the ratios round by round
    speedup, low, high               the same ratio by CPU time, which leaves out what else the machine does, and its
                                     quartiles
    """

    rounds: int
    before_ms: float
    after_ms: float
    wall: float
    speedup: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What compression made of a model. `timed` by runtime, with " dense" for the dense layers alone; `left` is the
    share that was asked for, 0 where it is in the name of the tool."""

    part: str
    left: float
    before: Counts
    after: Counts | None = None
    timed: dict[str, Paired] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """Runs of one tool on one model. `prepared`: it refuses the original and was given a rewritten copy."""

    suite: str
    model: str
    tool: str
    runs: list[Cost]
    bytes_in: int
    bytes_out: int
    prepared: bool = False
    error: str | None = None
    check: Check = field(default_factory=Check)
    latency: Latency | None = None
    rows: Rows | None = None
    quality: Quality | None = None
    shrunk: Shrunk | None = None
    counted: Counted | None = None
    loops: list[Loop] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.error is None

    @property
    def cpu_s(self) -> float:
        """Median over the runs."""
        return statistics.median(run.cpu_s for run in self.runs)

    @property
    def peak_rss(self) -> int:
        """Median over the runs, in bytes."""
        return int(statistics.median(run.peak_rss for run in self.runs))


@dataclass(frozen=True, slots=True)
class Session:
    """All results of one or more files; where two measure the same thing, the later one counts. `machine` is that of
    the last file, `machines` those of the suites."""

    machine: Machine
    results: dict[tuple[str, str, str], Result]
    machines: dict[str, Machine] = field(default_factory=dict, compare=False)

    def of(self, suite: str, model: str) -> dict[str, Result]:
        """The results of one model by tool."""
        return {tool: r for (s, m, tool), r in self.results.items() if (s, m) == (suite, model)}

    def models(self, suite: str) -> list[str]:
        return list(dict.fromkeys(model for s, model, _ in self.results if s == suite))


def write_line(path: Path, record: Machine | Result) -> None:
    """Append one record to `path`."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(record)) + "\n")


def parse(lines: Iterable[str]) -> Session:
    """The session in `lines`; ValueError if none of them describes a machine."""
    machine: Machine | None = None
    machines: dict[str, Machine] = {}
    results: dict[tuple[str, str, str], Result] = {}
    for line in lines:
        record: dict[str, Any] = json.loads(line)  # Any: JSON
        if "suite" in record:
            result = _result(record)
            results[result.suite, result.model, result.tool] = result
            if machine is not None:
                machines[result.suite] = machine
        else:
            machine = Machine(**record)
    if machine is None:
        raise ValueError("no line says on which machine these results were measured")
    return Session(machine, results, machines)


def read(paths: Iterable[Path]) -> Session:
    return parse(line for path in paths for line in path.read_text(encoding="utf-8").splitlines())


def _result(record: dict[str, Any]) -> Result:
    record["runs"] = [Cost(**run) for run in record["runs"]]
    record["check"] = Check(**record["check"])
    record["latency"] = Latency(**record["latency"]) if record.get("latency") else None
    record["rows"] = Rows(**record["rows"]) if record.get("rows") else None
    record["quality"] = quality_from(record["quality"]) if record.get("quality") else None
    record["shrunk"] = shrunk_from(record["shrunk"]) if record.get("shrunk") else None
    record["counted"] = Counted(**record["counted"]) if record.get("counted") else None
    record["loops"] = [Loop(**loop) for loop in record.get("loops", [])]
    return Result(**{f.name: record[f.name] for f in fields(Result)})


def shrunk_from(record: dict[str, Any]) -> Shrunk:
    """What `asdict` made of one."""
    after = Counts(**record["after"]) if record["after"] else None
    timed = {name: Paired(**p) for name, p in record["timed"].items()}
    return Shrunk(**record | {"before": Counts(**record["before"]), "after": after, "timed": timed})


def quality_from(record: dict[str, Any]) -> Quality:
    """What `asdict` made of a quality."""
    return Quality(**record | {"placed": {device: Placed(**p) for device, p in record["placed"].items()}})

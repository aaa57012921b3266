"""The suite `compression`: smaller models by this project and its peers, on the same rows, at a batch of one.

Whatever a tool wrote is compiled to ONNX with the exact passes first, and then counted, scored on test rows and timed
against the model as it was, compiled alike. Kept free of heavy imports, see `measure`.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import int8
from benchmarks.catalogue import COMPRESSION
from benchmarks.commands import LOG, reason, run_command, run_module
from benchmarks.compression_cases import API, COMMAND, CONVOLUTIONS, DENSE, ENVIRONMENT, Case, cases
from benchmarks.measure import Cost
from benchmarks.peers import HERE, environment_bin
from benchmarks.results import Counts, Paired, Quality, Result, Rows, Shrunk, quality_from

TIMEOUT_S = 1800.0
TIMED = (DENSE, CONVOLUTIONS)
RUNTIMES = {"onnx": "ONNX Runtime", "tflite": "LiteRT"}


@dataclass(frozen=True, slots=True)
class Given:
    """A model, its rows in `out`, the model compiled as it is, and what that counts."""

    source: Path
    out: Path
    cache: Path
    rows: Rows
    before: Counts

    @property
    def shapes(self) -> list[str]:
        return [w for n, dims in self.rows.bound.items() for w in ("--input", f"{n}={'x'.join(map(str, dims))}")]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which cases: models (None: all), recoveries, parts, the peers' too; and whether they are timed."""

    models: Sequence[str] | None
    recoveries: Sequence[str]
    parts: Sequence[str]
    peers: bool
    latency: bool


def results(folders: int8.Folders, asked: Asked) -> Iterator[Result]:
    """The results of all models that are there and have rows, one case after the other."""
    found = dict(int8.models(folders))
    cases_asked = cases(asked.recoveries, asked.parts, asked.peers)
    wanted = [c for c in cases_asked if c.model in found and (not asked.models or c.model in asked.models)]
    for name in dict.fromkeys(case.model for case in wanted):
        with tempfile.TemporaryDirectory(dir=folders.cache) as folder:
            given = _given(found[name].resolve(), Path(folder), folders)
            if given is None:
                print(f"{name}: no training and test rows with labels in {folders.data}", file=sys.stderr)
                continue
            for case in (c for c in wanted if c.model == name):
                yield _result(case, given, asked.latency)


def _given(source: Path, out: Path, folders: int8.Folders) -> Given | None:
    text = run_module("benchmarks.compression_rows", str(source), str(out), "--data", str(folders.data), must=False)
    if not text:
        return None
    given = Given(source, out, folders.cache, Rows(**json.loads(text)), Counts(0, 0, 0))
    whole = out / "whole.onnx"
    run_module("compiler", str(source), *_plain("onnx", whole), *given.shapes)
    return replace(given, before=_counts(whole))


def _plain(target: str, artifact: Path) -> tuple[str, ...]:
    return ("--target", target, "--verify", "off", "--quiet", "-o", str(artifact))


def _result(case: Case, given: Given, latency: bool) -> Result:
    """One case; what fails is told in `error`."""
    folder = given.out / "case"
    made = folder / ("made.tflite" if case.is_int8 else "made.onnx")
    cost = run_command(_command(case, given, made), folder, TIMEOUT_S)
    result = Result(
        COMPRESSION, case.model, case.tool, [cost], given.source.stat().st_size, _size(made), rows=given.rows,
        error=_error(cost, made), shrunk=Shrunk(case.part, case.left, given.before),
    )  # fmt: skip
    if not result.done:
        return result
    quality = _scored(given, made)
    if case.is_int8:
        return replace(result, quality=quality, shrunk=_timed_integers(case, given, made, latency))
    small = folder / "small.onnx"
    run_module("compiler", str(made), *_plain("onnx", small))
    shrunk = Shrunk(case.part, case.left, given.before, _counts(small))
    if latency and case.part in TIMED:
        shrunk = replace(shrunk, timed=_latencies(given.out / "whole.onnx", small, case.part == DENSE))
    return replace(result, quality=quality, shrunk=shrunk)


def _command(case: Case, given: Given, made: Path) -> list[str]:
    fit = str(given.out / "fit.npz")
    if case.how == COMMAND:
        target = "nnapi" if case.is_int8 else "onnx"
        words = ("-m", "compiler", str(given.source), *_plain(target, made), "--calibrate", fit, *given.shapes)
        kept = ("--sensitivities", str(given.out / "sensitivities.jsonl")) if _is_search(case) else ()
        return [sys.executable, *words, *kept, *case.words]
    method = [str(given.source), fit, str(made), case.words[0], str(case.left)]
    if case.how == API:
        return [sys.executable, "-m", "benchmarks.compression_own", *method, *given.shapes]
    python = environment_bin(given.cache, ENVIRONMENT) / "python"
    return [str(python), str(HERE / "foreign" / "torch_compress.py"), *method]


def _is_search(case: Case) -> bool:
    return any(word in ("--compress", "--macs") for word in case.words)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _error(cost: Cost, made: Path) -> str | None:
    return None if cost.exit_code == 0 and made.exists() else reason(made.parent / LOG, cost, first=True)


def _counts(path: Path, *words: str) -> Counts:
    return Counts(**json.loads(run_module("benchmarks.compression_file", str(path), *words)))


def _scored(given: Given, artifact: Path) -> Quality:
    """By the model as it was given, and the labels of the test rows."""
    arguments = (str(given.source), str(given.out / "held.npz"), str(artifact))
    text = run_module("benchmarks.int8_score", *arguments, must=False, one_thread=True)
    return quality_from(json.loads(text)) if text else Quality(given.rows.held, error="the process that ran it ended")


def _timed_integers(case: Case, given: Given, made: Path, latency: bool) -> Shrunk:
    """Of a file of integers: against the model as it was in floats."""
    shrunk = Shrunk(case.part, case.left, given.before)
    if not latency:
        return shrunk
    whole = given.out / "whole.tflite"
    if not whole.exists():
        run_module("compiler", str(given.out / "whole.onnx"), *_plain("nnapi", whole))
    return replace(shrunk, timed={RUNTIMES["tflite"]: _paired(whole, made)})


def _latencies(whole: Path, small: Path, dense: bool) -> dict[str, Paired]:
    """By runtime, of the whole network, and of its dense layers if they are asked for."""
    pairs = {"": (whole, small)}
    if dense:
        pairs[" dense"] = (_dense(whole), _dense(small))
    timed = {}
    for what, (before, after) in pairs.items():
        for suffix, runtime in RUNTIMES.items():
            timed[f"{runtime}{what}"] = _paired(*(_as(path, suffix) for path in (before, after)))
    return timed


def _dense(path: Path) -> Path:
    out = path.with_stem(f"{path.stem}-dense")
    if not out.exists():
        _counts(path, "--dense", str(out))
    return out


def _as(path: Path, suffix: str) -> Path:
    """An ONNX file, or the .tflite file that is made of it."""
    out = path.with_suffix(f".{suffix}")
    if not out.exists():
        run_module("compiler", str(path), *_plain("nnapi", out))
    return out


def _paired(before: Path, after: Path) -> Paired:
    text = run_module("benchmarks.compression_latency", str(before), str(after), one_thread=True)
    return Paired(**json.loads(text))

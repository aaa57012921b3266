"""The suite `int8`: files of 8-bit integers by this project and its peers, all from the same calibration rows.

Per model: rows (`int8_rows`), one measured conversion by each tool, outputs on held rows and the validator's verdicts
(`int8_score`), and the latency of all .tflite files, run in turn. Kept free of heavy imports, see `measure`.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.catalogue import CALIBRATED, CALIBRATION, INT8, OBSERVED, SUITES, model_path
from benchmarks.commands import LOG, reason, run_command, run_module
from benchmarks.peers import HERE, ROOT, environment_bin
from benchmarks.results import Latency, Quality, Result, Rows, quality_from
from benchmarks.scores import OURS

DATA = ROOT / "examples" / "data"
OWN_MODELS = (ROOT / "examples", ROOT / "tests" / "models")
QUANTIZED = ("_int8", "_qdq")  # at the end of the names of models that are integers already
FLOAT = "cincel fp32"
TIMEOUT_S = 200.0
MOST_KEPT = 50  # rows for which a peer that keeps all values of all of them has the memory
LATENCY = ("--loads", "4", "--seconds", "1")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where environments and generated models are kept, where further models lie, and rows."""

    cache: Path
    models: tuple[Path, ...]
    data: Path


@dataclass(frozen=True, slots=True)
class Quantizer:
    """A tool of the suite. `attempts` are argument lists, tried in turn until one gives the artifact; `{float}` is our
    file of floats, `{rows}` the calibration rows, `{shapes}` stands for `--input` of a model whose sizes are open."""

    name: str
    artifact: str
    attempts: tuple[tuple[str, ...], ...]
    environment: str | None = None
    note: str = ""

    @property
    def is_ours(self) -> bool:
        return self.environment is None


_OURS = ("-m", "compiler", "{model}", "--target", "nnapi", "{shapes}", "--verify", "off", "--quiet", "-o", "{artifact}")
_INT8 = (*_OURS, "--precision", "int8", "--calibrate", "{rows}")
_ONNX2TF = ("{here}/foreign/onnx2tf_int8.py", "{model}", "{rows}", "{artifact}")
_ORT = ("{here}/foreign/ort_static.py", "{model}", "{rows}", "{artifact}")


def _forms(backend: str, *kinds: str) -> tuple[tuple[str, ...], ...]:
    return tuple((*_ONNX2TF, backend, kind, copy) for copy in ("exact", "bare") for kind in kinds)


_STATIC = ("{here}/foreign/ai_edge_static.py", "{float}", "{rows}", "{artifact}")
QUANTIZERS = (
    Quantizer(FLOAT, "m.tflite", (_OURS,), note="float32, for its size and as what ai-edge-quantizer is given"),
    Quantizer(OURS, "m.tflite", (_INT8,), note="defaults: `--observer auto`"),
    Quantizer("cincel minmax", "m.tflite", ((*_INT8, "--observer", "minmax"),), note="`--observer minmax`"),
    Quantizer(
        "ORT minmax",
        "m.onnx",
        ((*_ORT, "MinMax"),),
        "onnx-tools",
        "onnxruntime's quantize_static after quant_pre_process: QDQ, int8, weights per channel",
    ),
    Quantizer("ORT entropy", "m.onnx", ((*_ORT, "Entropy"),), "onnx-tools", "the same with CalibrationMethod.Entropy"),
    Quantizer(
        "ai-edge",
        "m.tflite",
        (_STATIC,),
        "ai-edge-quantizer",
        "ai-edge-quantizer's recipe static_wi8_ai8 on our file of floats",
    ),
    Quantizer(
        "onnx2tf tf",
        "m.tflite",
        _forms("tf_converter", "per-channel"),
        "onnx2tf-tensorflow",
        "onnx2tf -tb tf_converter -oiqt, the file *_full_integer_quant.tflite",
    ),
    Quantizer(
        "onnx2tf",
        "m.tflite",
        _forms("flatbuffer_direct", "per-channel", "per-tensor"),
        "onnx2tf",
        "the same with its default backend; per tensor where it fails per channel",
    ),
)


def results(folders: Folders, only: Sequence[str] | None, peers: bool, latency: bool) -> Iterator[Result]:
    """The results of every model that is there."""
    for name, source in models(folders):
        if only and name not in only:
            continue
        if not source.exists():
            run_module("benchmarks.models", "--cache", str(folders.cache), name)
        with tempfile.TemporaryDirectory(dir=folders.cache) as folder:
            yield from _of_model(name, source.resolve(), Path(folder), folders, peers, latency)


def models(folders: Folders) -> Iterator[tuple[str, Path]]:
    """Names and files: those of this repository and of the given folders once each, then the generated ones."""
    found: dict[str, Path] = {}
    for folder in (*OWN_MODELS, *folders.models):
        for path in sorted(folder.glob("*.onnx")):
            if not path.stem.endswith(QUANTIZED):
                found.setdefault(path.stem, path)
    yield from found.items()
    yield from ((name, model_path(folders.cache, name)) for name in SUITES[INT8] if name not in found)


def _of_model(name: str, source: Path, out: Path, folders: Folders, peers: bool, latency: bool) -> Iterator[Result]:
    text = run_module("benchmarks.int8_rows", str(source), str(out), "--data", str(folders.data))
    rows = Rows(**json.loads(text))
    found: dict[str, Result] = {}
    for tool in QUANTIZERS:
        if peers or tool.is_ours:
            found[tool.name] = _converted(name, tool, source, out, folders.cache, rows)
    done = {n: _artifact(out, tool) for n, tool in _by_name().items() if n in found and found[n].done}
    qualities = {n: _scored(source, out, path, rows) for n, path in done.items()}
    running = {n: path for n, path in done.items() if _runs(path, qualities[n])} if latency else {}
    latencies = _latencies(running)
    for n, result in found.items():
        yield replace(result, quality=qualities.get(n), latency=latencies.get(n))


def calibrations(cache: Path, runs: int, peers: bool) -> Iterator[Result]:
    """Calibration alone, by us and by onnxruntime; runs of both interleaved."""
    run_module("benchmarks.models", "--cache", str(cache), CALIBRATED)
    source = model_path(cache, CALIBRATED).resolve()
    peer = [str(environment_bin(cache, "onnx-tools") / "python"), str(HERE / "foreign" / "ort_calibrate.py")]
    methods = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        for observer, rows in OBSERVED:
            ours = [sys.executable, "-m", "benchmarks.int8_calibrate", str(source), observer, str(rows)]
            commands = {OURS: ours}
            if peers and observer in methods and (observer == "minmax" or rows <= MOST_KEPT):
                commands["onnxruntime"] = [*peer, str(source), methods[observer], str(rows)]
            costs = [(n, run_command(argv, Path(folder, "run"))) for _ in range(runs) for n, argv in commands.items()]
            for name in commands:
                own = [cost for n, cost in costs if n == name]
                failed = [c.exit_code for c in own if c.exit_code != 0]
                error = f"exit code {failed[0]}" if failed else None
                bytes_in = source.stat().st_size
                yield Result(CALIBRATION, f"{observer}, {rows} rows", name, own, bytes_in, 0, error=error)


def _by_name() -> dict[str, Quantizer]:
    return {tool.name: tool for tool in QUANTIZERS}


def _folder(out: Path, tool: Quantizer) -> Path:
    return out / tool.name.replace(" ", "-")


def _artifact(out: Path, tool: Quantizer) -> Path:
    return _folder(out, tool) / tool.artifact


def _converted(model: str, tool: Quantizer, source: Path, out: Path, cache: Path, rows: Rows) -> Result:
    """The first attempt that gives the artifact; `prepared` if it was not the first."""
    folder, artifact = _folder(out, tool), _artifact(out, tool)
    values = {
        "model": source,
        "rows": out / "calibrate.npz",
        "artifact": artifact,
        "here": HERE,
        "float": _artifact(out, _by_name()[FLOAT]),
    }
    shapes = [w for n, dims in rows.bound.items() for w in ("--input", f"{n}={'x'.join(map(str, dims))}")]
    python = sys.executable if tool.environment is None else str(environment_bin(cache, tool.environment) / "python")
    for attempt in tool.attempts:
        words = (w for part in attempt for w in (shapes if part == "{shapes}" else [part.format(**values)]))
        cost = run_command([python, *words], folder, TIMEOUT_S)
        if cost.exit_code in (0, None):
            break
    error = None if cost.exit_code == 0 and artifact.exists() else reason(folder / LOG, cost, first=True)
    size = artifact.stat().st_size if artifact.exists() else 0
    is_other = attempt != tool.attempts[0]
    bytes_in = source.stat().st_size
    return Result(INT8, model, tool.name, [cost], bytes_in, size, prepared=is_other, error=error, rows=rows)


def _scored(source: Path, out: Path, artifact: Path, rows: Rows) -> Quality:
    """In a process for each artifact: some files end the one that runs them."""
    text = run_module("benchmarks.int8_score", str(source), str(out / "held.npz"), str(artifact), must=False)
    return quality_from(json.loads(text)) if text else Quality(rows.held, error="the process that ran it ended")


def _runs(path: Path, quality: Quality) -> bool:
    return path.suffix == ".tflite" and quality.error is None


def _latencies(paths: dict[str, Path]) -> dict[str, Latency]:
    """Of the files that run; ratios are to the last tool's."""
    if not paths:
        return {}
    text = run_module("benchmarks.latency", *LATENCY, *map(str, paths.values()), must=False, one_thread=True)
    return dict(zip(paths, (Latency(**record) for record in json.loads(text)), strict=True)) if text else {}

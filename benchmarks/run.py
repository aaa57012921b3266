"""Measure whole commands, ours and the peers', against the bars: `python -m benchmarks.run --all`.

Runs of one model are interleaved (A B C A B C ...), so that ratios survive a machine whose speed drifts. This process
stays small on purpose (see `measure`): models, environments and checks are made by other processes.
"""

import argparse
import datetime as dt
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import compression, int8
from benchmarks.catalogue import CALIBRATION, COMPRESSION, INT8, SUITES, model_path
from benchmarks.commands import LOG, TIMEOUT_S, reason, run_command, run_module
from benchmarks.compression_cases import ENVIRONMENT, PARTS, RECOVERIES
from benchmarks.measure import measure
from benchmarks.peers import DEFAULT_CACHE, ENVIRONMENTS, TOOLS, Tool, applies
from benchmarks.report import render
from benchmarks.results import Check, Latency, Machine, Result, parse, write_line
from compiler import __version__

SLOW_CPU_S = 60.0
"""A command that took longer is not run again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 if one of our own commands failed; bars that are missed are printed, not counted."""
    options = _options(argv)
    cache: Path = options.cache.resolve()
    path: Path = options.output or cache / f"results-{dt.date.today().isoformat()}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if options.peers:
        names = dict.fromkeys(name for suite in options.suite for name in _environments(suite))
        run_module("benchmarks.peers", "--cache", str(cache), *names)
    start = path.stat().st_size if path.exists() else 0
    write_line(path, describe_machine(path.parent))
    failed = 0
    for suite in options.suite:
        for result in _measured(suite, options, cache):
            write_line(path, result)
            print(_line(result), flush=True)
            failed += result.tool.split(" --")[0] == "cincel" and not result.done
    print(f"\n{path}\n")
    print(render(parse(path.read_bytes()[start:].decode().splitlines())))
    return 1 if failed else 0


def _environments(suite: str) -> list[str]:
    if suite == COMPRESSION:
        return [ENVIRONMENT]
    return [tool.environment for tool in TOOLS.get(suite, int8.QUANTIZERS) if tool.environment is not None]


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every suite")
    parser.add_argument("--suite", action="append", choices=tuple(SUITES), default=[])
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--runs", type=int, default=3, help="of each command on each model (default 3)")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="measure the peers too")
    parser.add_argument("--check", action=argparse.BooleanOptionalAction, default=True, help="execute the artifacts")
    parser.add_argument(
        "--model-folder", type=Path, action="append", default=[], help="int8, compression: folders of further models"
    )
    parser.add_argument(
        "--latency", action=argparse.BooleanOptionalAction, default=True, help="int8, compression: time too"
    )
    parser.add_argument("--data", type=Path, default=int8.DATA, help="int8, compression: the folder of rows")
    parser.add_argument(
        "--recover", nargs="+", choices=RECOVERIES, default=["none", "closed-form"], help="compression: each"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="compression: these parts")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="models, environments, results")
    parser.add_argument("--output", type=Path, help="JSON lines to append to (default: in the cache, by date)")
    options = parser.parse_args(argv)
    if not options.all and not options.suite:
        parser.error("say --all or --suite")
    if options.all:
        options.suite = list(SUITES)
    return options


def _measured(suite: str, options: argparse.Namespace, cache: Path) -> Iterator[Result]:
    if suite == INT8:
        folders = int8.Folders(cache, tuple(options.model_folder), options.data)
        yield from int8.results(folders, options.models, options.peers, options.latency)
        return
    if suite == COMPRESSION:
        folders = int8.Folders(cache, tuple(options.model_folder), options.data)
        asked = compression.Asked(options.models, options.recover, options.parts, options.peers, options.latency)
        yield from compression.results(folders, asked)
        return
    if suite == CALIBRATION:
        yield from int8.calibrations(cache, options.runs, options.peers)
        return
    for model in (m for m in SUITES[suite] if not options.models or m in options.models):
        run_module("benchmarks.models", "--cache", str(cache), model)
        tools = [t for t in TOOLS[suite] if (options.peers or t.is_ours) and applies(t, suite, model)]
        yield from _measure_model(suite, model, tools, cache, options.runs, options.check)


def _measure_model(
    suite: str, model: str, tools: Sequence[Tool], cache: Path, runs: int, check: bool
) -> Iterator[Result]:
    source = model_path(cache, model).resolve()
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        out = Path(folder)
        found = {tool: _first_run(suite, model, tool, source, out, cache) for tool in tools}
        if suite == "latency":
            yield from _latencies(found, source, out)
            return
        for _ in range(runs - 1):
            for tool, result in found.items():
                if result.done and result.cpu_s < SLOW_CPU_S:
                    given = _prepared(source, cache) if result.prepared else source
                    result.runs.append(run_command(tool.command(given, out / tool.name, cache), out / tool.name))
        for tool, result in found.items():
            artifact = tool.produced(source, out / tool.name)
            yield replace(result, check=_check(source, artifact)) if check and result.done else result


def _latencies(found: Mapping[Tool, Result], source: Path, out: Path) -> Iterator[Result]:
    """The artifacts of all tools that made one, run in turn; ours is compared with the last."""
    done = {tool: result for tool, result in found.items() if result.done}
    paths = [str(tool.produced(source, out / tool.name)) for tool in done]
    text = run_module("benchmarks.latency", *paths, must=False, one_thread=True)
    figures = [Latency(**record) for record in json.loads(text)] if text else []
    by_tool = dict(zip(done, figures, strict=True)) if figures else {}
    for tool, result in found.items():
        error = None if tool in by_tool or not result.done else "LiteRT does not run one of the files"
        yield replace(result, latency=by_tool.get(tool), error=result.error or error)


def _first_run(suite: str, model: str, tool: Tool, source: Path, out: Path, cache: Path) -> Result:
    """One run, which for a peer that refuses the model is one on a prepared copy of it."""
    sources = [source]
    if not tool.is_ours and suite in ("coreml", "coreai"):
        sources.append(_prepared(source, cache))
    for given in sources:
        cost = run_command(tool.command(given, out / tool.name, cache), out / tool.name)
        if cost.exit_code == 0:
            break
    folder = out / tool.name
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and f.name != LOG)
    error = None if cost.exit_code == 0 else reason(folder / LOG, cost)
    weights = source.with_name(source.name + ".data")
    bytes_in = source.stat().st_size + (weights.stat().st_size if weights.exists() else 0)
    return Result(suite, model, tool.name, [cost], bytes_in, size, prepared=given != source, error=error)


def _prepared(source: Path, cache: Path) -> Path:
    path = cache / "models" / "prepared" / source.name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run_module("benchmarks.prepare", str(source), str(path))
    return path


def _check(source: Path, artifact: Path) -> Check:
    text = run_module("benchmarks.check", str(source), str(artifact), must=False)
    return Check(**json.loads(text)) if text else Check(error="the check itself failed")


def describe_machine(folder: Path) -> Machine:
    """This machine, and the versions on both sides."""
    log = folder / f"floor-{os.getpid()}.log"
    cost = measure([sys.executable, "-c", "import numpy"], log, TIMEOUT_S)
    log.unlink()
    ours = {
        name: _version(name) for name in ("onnx", "onnxruntime", "numpy", "coremltools", "protobuf", "ai-edge-litert")
    }
    pins = dict(pin.split("==") for pins in ENVIRONMENTS.values() for pin in pins)
    return Machine(
        date=dt.date.today().isoformat(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        python=platform.python_version(),
        versions={**pins, **ours, "cincel": __version__},
        load=round(os.getloadavg()[0], 1),
        floor_rss=cost.peak_rss,
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _line(result: Result) -> str:
    nodes = "" if result.check.nodes is None else f"{result.check.nodes} nodes"
    quality = "" if result.check.psnr_db is None else f"{result.check.psnr_db:.0f} dB"
    if result.quality and result.quality.snr_db is not None:
        quality = f"{result.quality.snr_db:.1f} dB"
    if result.latency:
        quality = f"{result.latency.median_ms:.3f} ms, {result.latency.ratio:.3f} x"
    if result.quality and result.quality.top1 is not None:
        quality = f"{result.quality.top1:.2f} %"
    note = result.error or result.check.error or ("prepared copy" if result.prepared else "")
    cost = f"{result.cpu_s:8.2f} s {result.peak_rss / 1e6:7.0f} MB"
    return f"{result.suite:8} {result.model:24} {result.tool:12} {cost}  {nodes:>12} {quality:>8}  {note}".rstrip()


if __name__ == "__main__":
    sys.exit(main())

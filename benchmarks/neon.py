"""The suite `neon`: executed instructions per inference of our libraries and of the peers, under an emulator.

`python -m benchmarks.neon` counts, and asks llvm-mca for the inner loops of single layers; with `--functions` it tells
in which functions the instructions of our libraries are instead. Counts are of what an inference adds: the difference
between two runs with more and with fewer of them, or for the peers, who start slowly, between places in one run.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import neon_count, neon_mca, neon_sysroot
from benchmarks.catalogue import NEON
from benchmarks.neon_cases import CASES, LAYERS, PEERS, Case, processors, source
from benchmarks.neon_count import CPUS
from benchmarks.neon_files import library, macs
from benchmarks.neon_peers import Count, agreement, counts
from benchmarks.neon_report import section
from benchmarks.neon_results import Counted, Loop
from benchmarks.peers import DEFAULT_CACHE
from benchmarks.results import Check, Result, parse, write_line
from benchmarks.run import describe_machine
from benchmarks.scores import OURS
from compiler.errors import CompileError
from compiler.tensor import Array


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 if a library of ours did not run."""
    options = _options(argv)
    absent = neon_count.missing() or (neon_mca.missing() if options.mca else None)
    if absent:
        print(absent, file=sys.stderr)
        return 1
    cases = [c for c in CASES if not options.cases or any(asked in c.name for asked in options.cases)]
    cache: Path = options.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    if options.functions:
        return _functions(cases, cache)
    path: Path = options.output or cache / f"results-{dt.date.today().isoformat()}-neon.jsonl"
    start = path.stat().st_size if path.exists() else 0
    machine = describe_machine(path.parent)
    others = neon_sysroot.WHEELS if options.peers else {}
    write_line(path, replace(machine, versions=machine.versions | others | neon_count.versions()))
    failed = 0
    for result in _measured(cases, cache, options.peers, options.mca):
        write_line(path, result)
        print(f"{result.model:24} {result.tool:24} {result.error or _told(result)}", flush=True)
        failed += result.tool.startswith(OURS) and not result.done
    print(f"\n{section(parse(path.read_bytes()[start:].decode().splitlines()))}")
    return 1 if failed else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="those that have it in their names")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="count the peers too")
    parser.add_argument("--mca", action=argparse.BooleanOptionalAction, default=True, help="look at inner loops too")
    parser.add_argument("--functions", action="store_true", help="where our instructions are, and nothing else")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="models, environments, results")
    parser.add_argument("--output", type=Path, help="JSON lines to append to (default: in the cache, by date)")
    return parser.parse_args(argv)


def _told(result: Result) -> str:
    counted = result.counted
    return "" if counted is None else f"{counted.total / 1e6:10.3f} M"


def _measured(cases: Sequence[Case], cache: Path, peers: bool, mca: bool) -> Iterator[Result]:
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        for case in cases:
            yield from _ours(case, cache, folder / OURS / case.name.replace(" ", "_"), mca)
        for numbers, tools in PEERS.items() if peers else ():
            wanted = [c for c in cases if c.numbers == numbers]
            for tool in tools if wanted else ():
                to = folder / tool / numbers
                to.mkdir(parents=True)
                yield from (_result(tool, count, cache) for count in counts(tool, wanted, cache, to))


def _result(tool: str, count: Count, cache: Path, loops: Sequence[Loop] = ()) -> Result:
    given = source(count.case, cache)
    counted = None if count.counted is None else replace(count.counted, macs=macs(given))
    name = f"{tool} {count.processor}"
    made = Result(NEON, count.case.name, name, [], given.stat().st_size, 0, error=count.error, counted=counted)
    return replace(made, check=Check(psnr_db=count.snr_db), loops=list(loops))


def _ours(case: Case, cache: Path, to: Path, mca: bool) -> Iterator[Result]:
    try:
        command = library(case, cache, to)
    except CompileError as e:
        yield from (_result(OURS, Count(case, p, None, error=str(e)), cache) for p in processors(case))
        return
    for processor in processors(case):
        found = neon_count.per_run(command, CPUS[processor], 1, min(case.runs, 2))
        functions = _most(neon_count.by_function(command, CPUS[processor], 1, 1))
        snr = agreement(case, _output(case, to), cache) if case.numbers == "float" else None
        loops = neon_mca.loops_of(Path(command[0]), functions, neon_mca.CORES) if mca and case.is_layer else []
        yield _result(OURS, Count(case, processor, Counted(found, functions=functions), snr), cache, loops)
    if mca and case.is_layer:
        yield _in_order(case, cache, to / neon_mca.IN_ORDER)


def _in_order(case: Case, cache: Path, to: Path) -> Result:
    """The library for a core that issues instructions in the order of the program."""
    command = library(case, cache, to, neon_mca.IN_ORDER)
    functions = _most(neon_count.by_function(command, CPUS["dotprod"], 1, 1))
    loops = neon_mca.loops_of(Path(command[0]), functions, [neon_mca.IN_ORDER])
    counted = Counted(neon_count.per_run(command, CPUS["dotprod"], 1, 1), functions=functions)
    return _result(OURS, Count(case, neon_mca.IN_ORDER, counted), cache, loops)


def _output(case: Case, folder: Path) -> Array:
    """What our runner wrote, channels first."""
    found = np.fromfile(folder / "0.bin", np.float32)
    if not case.is_layer or len(case.shape) == 2:
        return found
    return found.reshape(-1, LAYERS[case.model][1][0]).T


def _most(functions: Mapping[str, float], share: float = 0.02) -> dict[str, float]:
    """Those that have a share worth telling."""
    total = sum(functions.values())
    return {name: n for name, n in functions.items() if n >= share * total}


def _functions(cases: Sequence[Case], cache: Path) -> int:
    with tempfile.TemporaryDirectory(dir=cache) as name:
        for case in cases:
            command = library(case, cache, Path(name) / case.name.replace(" ", "_"))
            for processor in processors(case):
                print(f"\n{case.name}, {processor}")
                for function, n in neon_count.by_function(command, CPUS[processor], 1, 1).items():
                    print(f"{n / 1e6:12.3f} M  {function}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

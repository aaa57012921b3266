"""Two files in turn, one thread: `python -m benchmarks.compression_latency BEFORE AFTER` prints a `results.Paired`.

ONNX files run in ONNX Runtime, with inputs and outputs bound beforehand, .tflite files in LiteRT. Rounds, their order
and their repeats are those of `latency`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.int8_rows import open_session
from benchmarks.latency import Rounds, timed
from benchmarks.results import Paired
from benchmarks.tflite_file import invoker

LOADS, SECONDS_PER_LOAD = 6, 0.8
Clock = Callable[[], float]


def paired(wall: Rounds, cpu: Rounds) -> Paired:
    """Of rounds with two columns, by the wall clock and in CPU time."""
    before, after = (statistics.median(column) * 1e3 for column in zip(*wall, strict=True))
    ratio = statistics.median(a / b for a, b in wall)
    low, middle, high = statistics.quantiles([a / b for a, b in cpu], n=4)
    return Paired(len(wall) + len(cpu), before, after, ratio, middle, low, high)


def bound(path: Path) -> Callable[[], object]:
    """One run of an ONNX file with one input, of which open sizes are 1, on seeded numbers."""
    session = open_session(path)
    binding = session.io_binding()
    rng = np.random.default_rng(0)
    for i in session.get_inputs():
        shape = [d if isinstance(d, int) else 1 for d in i.shape]
        binding.bind_cpu_input(i.name, rng.standard_normal(shape).astype(np.float32))
    for o in session.get_outputs():
        binding.bind_output(o.name)
    return lambda: session.run_with_iobinding(binding)


def opened(path: Path) -> Callable[[], object]:
    return bound(path) if path.suffix == ".onnx" else invoker(str(path))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--loads", type=int, default=LOADS, help=f"how often files are loaded (default {LOADS})")
    parser.add_argument("--seconds", type=float, default=SECONDS_PER_LOAD, help="of each load")
    o = parser.parse_args(argv)
    rounds: dict[Clock, Rounds] = {time.perf_counter: [], time.process_time: []}
    for load in range(o.loads):
        paths = [o.before, o.after] if load % 2 else [o.after, o.before]
        loaded = {path: opened(path) for path in paths}
        for clock, seen in rounds.items():
            seen.extend(timed([loaded[o.before], loaded[o.after]], o.seconds / len(rounds), clock))
    print(json.dumps(asdict(paired(*rounds.values()))))


if __name__ == "__main__":
    main()

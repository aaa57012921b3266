"""How long .tflite files take in LiteRT, one thread: `python -m benchmarks.latency A.tflite B.tflite`.

Prints one JSON list with a `results.Latency` per file. The files are invoked in turn, in an order that changes each
round, and compared round by round: what else the machine does meets them alike. Where the weights land in memory
shifts a file against an identical copy by a percent, so everything is loaded anew several times.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from benchmarks.results import Latency
from benchmarks.tflite_file import invoker

LOADS = 8
SECONDS_PER_LOAD = 2.5
LEAST_ROUNDS = 5  # of each load
MOST_ROUNDS = 300
LEAST_S = 0.002  # what is timed takes at least this long: short models are invoked several times

Invoke = Callable[[], object]
Rounds = list[tuple[float, ...]]  # seconds of each file, round by round


def timed(invokes: Sequence[Invoke], seconds: float, clock: Callable[[], float] = time.perf_counter) -> Rounds:
    """Seconds of one invocation of each, in rounds whose order changes, after one to warm up."""
    for invoke in invokes:
        invoke()
    repeats = [max(1, round(LEAST_S / max(_once(invoke, 1, clock), 1e-9))) for invoke in invokes]
    rounds: Rounds = []
    orders = itertools.cycle((range(len(invokes)), range(len(invokes) - 1, -1, -1)))
    end = clock() + seconds
    while len(rounds) < LEAST_ROUNDS or (clock() < end and len(rounds) < MOST_ROUNDS):
        taken = {i: _once(invokes[i], repeats[i], clock) for i in next(orders)}
        rounds.append(tuple(taken[i] for i in range(len(invokes))))
    return rounds


def _once(invoke: Invoke, repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        invoke()
    return (clock() - start) / repeats


def summary(rounds: Rounds) -> list[Latency]:
    """The figures of each file; the ratio is to the last one, the median over the rounds."""
    columns = list(zip(*rounds, strict=True))
    return [
        Latency(
            rounds=len(rounds),
            median_ms=statistics.median(column) * 1e3,
            least_ms=min(column) * 1e3,
            ratio=statistics.median(mine / last for mine, last in zip(column, columns[-1], strict=True)),
        )
        for column in columns
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="FILE.tflite")
    parser.add_argument("--loads", type=int, default=LOADS, help=f"how often files are loaded (default {LOADS})")
    parser.add_argument("--seconds", type=float, default=SECONDS_PER_LOAD, help="of each load")
    options = parser.parse_args(argv)
    paths: list[str] = options.paths
    rounds: Rounds = []
    for load in range(options.loads):
        order = range(len(paths)) if load % 2 else range(len(paths) - 1, -1, -1)
        loaded = {i: invoker(paths[i]) for i in order}
        rounds += timed([loaded[i] for i in range(len(paths))], options.seconds)
        del loaded
    print(json.dumps([asdict(figures) for figures in summary(rounds)]))


if __name__ == "__main__":
    main()

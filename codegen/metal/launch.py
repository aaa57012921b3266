"""How long a dispatch takes, estimated: what fits on a core, how many waves of threadgroups there are, arithmetic and
bytes against what a GPU can do; and the tiles of a product for which that is least.

The model is a roofline (Williams, Waterman, Patterson 2009, "Roofline: an insightful visual performance model") with
three corrections. Cores that have nothing to do in the last wave count. A core is busy only if enough instructions are
on their way: simdgroups times independent instructions of each, by Little's law. Loads of a tile pass between a core
and the caches that cores share, more often than they pass between those and memory. All figures come in a record; where
they are from is said where that is made.
"""

from __future__ import annotations

from functools import cache
from math import ceil
from typing import NamedTuple

REGISTER = 4  # bytes
ALIGNMENT = 16  # bytes of threadgroup memory
FRAGMENT = 8  # rows and columns of a simdgroup matrix
ILP = 4  # independent instructions that a simdgroup can have on their way: four pipes of a core
OTHER_REGISTERS = 32  # of a thread of a product, besides sums and operands: addresses and counts
SUM = 4  # bytes of a sum


class Gpu(NamedTuple):
    """Figures of a GPU. Lengths are in bytes, rates per core and cycle; `fp32`, `fp16` are in operations, two for a
    multiply-add, `matrix_fp32`, `matrix_fp16` in multiply-adds of simdgroup matrices. `latency` is how many simdgroups
    times independent instructions keep a core busy; `dispatch` is in seconds, `barrier` in cycles, `clock` in Hz,
    `bandwidth` in bytes a second."""

    name: str
    cores: int
    clock: float
    bandwidth: float
    simd_width: int
    threads_per_threadgroup: int
    threadgroup_memory: int
    threads_per_core: int
    registers_per_core: int
    memory_per_core: int
    core_bandwidth: float
    local_bandwidth: float
    latency: float
    fp32: float
    fp16: float
    matrix_fp32: float
    matrix_fp16: float
    dispatch: float
    barrier: float


class Occupancy(NamedTuple):
    """Threadgroups on one core at once, their simdgroups, the share of the threads that the core could hold, and what
    there is no more of: "threads", "memory" or "registers"."""

    threadgroups: int
    simdgroups: int
    share: float
    limit: str


class Estimate(NamedTuple):
    """Seconds of a dispatch: the longer of arithmetic and memory, and what a dispatch takes in any case."""

    arithmetic: float
    memory: float
    seconds: float
    bound: str


class Tile(NamedTuple):
    """How a product is cut: each threadgroup makes `rows` x `columns`, `depth` of the inner axis at a time, with
    `simdgroups` that stand in `rows_of` rows."""

    rows: int
    columns: int
    depth: int
    simdgroups: int
    rows_of: int

    @property
    def name(self) -> str:
        return f"{self.rows}x{self.columns}"


class Choice(NamedTuple):
    """A tile, how many threadgroups there are then, and what that is to take."""

    tile: Tile
    threadgroups: int
    occupancy: Occupancy
    estimate: Estimate


def occupancy(gpu: Gpu, threads: int, threadgroup_memory: int = 0, registers: int = 0) -> Occupancy:
    """What one core holds of threadgroups of so many threads, each of so many 32-bit registers; 0 if that is not known.

    The least of threads_per_core / threads, memory_per_core / memory and registers_per_core / (4 registers threads),
    with threads in whole simdgroups and memory in whole units of 16 bytes. ValueError for a threadgroup that no core
    holds."""
    simdgroups = ceil(threads / gpu.simd_width)
    whole = simdgroups * gpu.simd_width
    memory = ceil(threadgroup_memory / ALIGNMENT) * ALIGNMENT
    if not 0 < threads <= gpu.threads_per_threadgroup or memory > gpu.threadgroup_memory:
        raise ValueError(
            f"a threadgroup of {threads} threads and {memory} bytes: {gpu.name} has {gpu.threads_per_threadgroup} "
            f"threads and {gpu.threadgroup_memory} bytes at most"
        )
    room = {"threads": gpu.threads_per_core // whole}
    if memory:
        room["memory"] = gpu.memory_per_core // memory
    if registers:
        room["registers"] = gpu.registers_per_core // (REGISTER * registers * whole)
    limit = min(room, key=lambda what: room[what])
    if not room[limit]:
        raise ValueError(f"{threads} threads of {registers} registers: no core of {gpu.name} holds them")
    return Occupancy(room[limit], room[limit] * simdgroups, room[limit] * whole / gpu.threads_per_core, limit)


def busy(gpu: Gpu, simdgroups: float, independent: int = 1) -> float:
    """The share of the cycles in which a core issues: min(1, simdgroups x independent / latency). Independent
    instructions beyond four are of no use."""
    return min(1.0, simdgroups * min(independent, ILP) / gpu.latency)


def waves(gpu: Gpu, threadgroups: int) -> int:
    """How many threadgroups the core has that has most."""
    return ceil(threadgroups / gpu.cores)


def roofline(
    flops: float, nbytes: float, gpu: Gpu, threadgroups: int = 0, threads: int = 256, *, half: bool = False
) -> Estimate:
    """A dispatch of so many operations that reads and writes so many bytes of memory: max(flops / rate, bytes /
    bandwidth), with the rate of the cores that have work; all have, if the number of threadgroups is not told.

    Few threadgroups cannot draw all the bandwidth either: each core moves `core_bandwidth` bytes a cycle at most."""
    used = min(threadgroups or gpu.cores, gpu.cores)
    level = threadgroups / (waves(gpu, threadgroups) * used) if threadgroups else 1.0
    resident = min(occupancy(gpu, threads).threadgroups, waves(gpu, threadgroups)) if threadgroups else 0
    share = busy(gpu, resident * ceil(threads / gpu.simd_width), ILP) if threadgroups else 1.0
    rate = (gpu.fp16 if half else gpu.fp32) * gpu.clock * used * level * share
    reach = min(gpu.bandwidth, gpu.core_bandwidth * gpu.clock * used * level)
    return _estimate(gpu, flops / rate, nbytes / reach)


def _estimate(gpu: Gpu, arithmetic: float, memory: float) -> Estimate:
    seconds = max(arithmetic, memory) + gpu.dispatch
    fixed = gpu.dispatch > max(arithmetic, memory)
    return Estimate(
        arithmetic, memory, seconds, "launch" if fixed else "arithmetic" if arithmetic > memory else "memory"
    )


def registers(tile: Tile, element: int) -> int:
    """32-bit registers of a thread: its part of the sums of its simdgroup, of one fragment of each row and column of
    fragments, and the rest."""
    rows, columns = tile.rows // tile.rows_of, tile.columns * tile.rows_of // tile.simdgroups
    operands = (rows + columns) * FRAGMENT * element
    return ceil((rows * columns * SUM + operands) / (REGISTER * 32)) + OTHER_REGISTERS


def memory(tile: Tile, element: int) -> int:
    """Bytes of threadgroup memory: the rows and the columns that are worked on."""
    return (tile.rows + tile.columns) * tile.depth * element


def product(m: int, n: int, k: int, gpu: Gpu, tile: Tile, *, element: int = 2, batch: int = 1) -> Choice:
    """A product of m x k by k x n elements of so many bytes, done for each of a batch, with these tiles.

    A threadgroup takes ceil(k / depth) steps. In each it does rows x columns x depth multiply-adds, brings
    (rows + columns) x depth elements from the caches, and reads them out of threadgroup memory once for each simdgroup
    that needs them; these overlap with those of other threadgroups on the core, so that the longest counts, and two
    barriers stand between them, which others on the core hide. Memory is read once: m k + k n + m n elements."""
    groups = ceil(m / tile.rows) * ceil(n / tile.columns) * batch
    found = occupancy(gpu, tile.simdgroups * gpu.simd_width, memory(tile, element), registers(tile, element))
    resident = min(found.threadgroups, waves(gpu, groups))
    rate = gpu.matrix_fp16 if element == 2 else gpu.matrix_fp32
    steps = ceil(k / tile.depth)
    moved = (tile.rows + tile.columns) * tile.depth * element
    shared = (tile.rows * (tile.simdgroups // tile.rows_of) + tile.columns * tile.rows_of) * tile.depth * element
    sums = tile.rows * tile.columns * tile.depth / (rate * busy(gpu, resident * tile.simdgroups, ILP))
    step = max(sums, moved / gpu.core_bandwidth, (shared + moved) / gpu.local_bandwidth)
    end = tile.rows * tile.columns * element / gpu.core_bandwidth
    cycles = steps * (step + 2 * gpu.barrier / resident) + end
    nbytes = (m * k + k * n + m * n) * element * batch
    estimate = _estimate(gpu, waves(gpu, groups) * cycles / gpu.clock, nbytes / gpu.bandwidth)
    return Choice(tile, groups, found, estimate)


@cache
def tile_for(m: int, n: int, k: int, gpu: Gpu, tiles: tuple[Tile, ...], *, element: int = 2, batch: int = 1) -> Choice:
    """The tile that takes least for a product; of some that take as long the largest, then the first."""
    ways = [product(m, n, k, gpu, tile, element=element, batch=batch) for tile in tiles]
    return min(ways, key=lambda way: (way.estimate.seconds, -way.tile.rows * way.tile.columns))

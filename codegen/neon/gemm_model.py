"""How many instructions products of matrices take, and which tiles take the fewest."""

from __future__ import annotations

from functools import cache
from itertools import product
from math import inf
from typing import NamedTuple

from codegen.neon.gemm_in_order import InOrder
from codegen.neon.gemm_schedule import CHUNK, FMLA, REGISTERS, ROWS, Instruction, Schedule

WIDEST = 8  # vectors of a tile
NARROW = 2  # in order: eight rows of two vectors, so that weights come in time
CHAINS = 16  # accumulators that keep the pipes busy: four, with results after four cycles
TILE = 4  # instructions around a tile
CALL = 60  # around a call of a strip: arguments, and registers that are saved
USUAL = (4, 4)  # rows and vectors of the tile that layers share
SLACK = 1.03  # how much more it may cost than the best, since code that layers share is code that is in the cache


class Tiles(NamedTuple):
    """How the rows and columns of a product are cut.

    Rows: `count` tiles of `rows`, then `last_count` of `last_rows`. Columns: `panels` of `vectors`, then one of
    `last_columns`, if that is not 0. `cost` is in instructions.
    """

    rows: int
    count: int  # type: ignore[assignment]  # nobody looks for numbers in the tuple
    last_rows: int
    last_count: int
    vectors: int
    panels: int
    last_columns: int
    cost: float


@cache
def schedule(rows: int, vectors: int, instruction: Instruction = FMLA, *, in_order: bool = False) -> Schedule | None:
    """The best schedule of a tile; None if registers are not enough."""
    for depth, chunks in ((1, 2),) if in_order else ((2, 2), (1, 2), (1, 1)):
        made = (InOrder if in_order else Schedule)(rows, vectors, depth, chunks, instruction)
        if made.registers <= REGISTERS:
            return made
    return None


def tile_cost(s: Schedule, depth: int, segments: int) -> float:
    """Instructions of a tile over `segments` times `depth` elements of its rows, those for pipes that wait included."""
    lanes = s.instruction.lanes
    turns, rest = divmod(depth, s.per_turn)
    steps = -(-rest // s.instruction.group)
    loads = s.steps // lanes // s.depth * s.rows + s.steps * s.vectors / CHUNK
    turn = s.steps * s.rows * s.vectors + loads + 2
    if isinstance(s, InOrder):
        turn += s.steps * s.vectors / CHUNK + 2
    parts = s.rows * (steps // lanes + (steps % lanes).bit_count())
    left = steps * (s.rows * s.vectors + s.vectors / CHUNK) + parts + s.chunks * bool(rest)
    around = s.rows + 3 if segments > 1 else 0
    wait = max(1.0, CHAINS / (s.rows * s.vectors))
    ends = s.rows * (2 + (s.vectors if s.vectors > CHUNK else 1)) + TILE + s.chunks
    return (segments * (turns * turn + left) * wait) + segments * around + ends


@cache
def tiles(
    rows: int,
    columns: int,
    depth: int,
    segments: int = 1,
    lines: int = 1,
    vectors: int = 0,
    instruction: Instruction = FMLA,
    *,
    in_order: bool = False,
) -> Tiles:
    """The cheapest cut of a product of `rows` x `columns`, each over `segments` times `depth` elements, that is done
    for each of `lines`; with panels of `vectors`, if these are given."""
    found: Tiles | None = None
    usual: Tiles | None = None
    most = min(-(-columns // instruction.columns), NARROW if in_order else WIDEST)
    least = most if in_order else 1
    for height, wide in product(range(1, min(rows, ROWS) + 1), range(vectors or least, (vectors or most) + 1)):
        if schedule(height, wide, instruction, in_order=in_order) is None:
            continue
        panels, last_columns = divmod(columns, wide * instruction.columns)
        widths = [(panels, wide), (int(last_columns > 0), -(-last_columns // instruction.columns))]
        for count, last_rows, last_count in heights(rows, height, ROWS):
            cost = 0.0
            for (many, width), (n, high) in product(widths, ((count, height), (last_count, last_rows))):
                if many and n:
                    way = schedule(high, width, instruction, in_order=in_order)
                    cost += many * (n * tile_cost(way, depth, segments) + CALL) if way is not None else inf
            made = Tiles(height, count, last_rows, last_count, wide, panels, last_columns, cost * lines)
            if found is None or made.cost < found.cost:
                found = made
            if (height, wide) == USUAL and (usual is None or made.cost < usual.cost):
                usual = made
    assert found is not None
    return usual if usual is not None and usual.cost <= SLACK * found.cost else found


def heights(rows: int, height: int, most: int = 0) -> list[tuple[int, int, int]]:
    """Ways to cut rows: tiles of the height, then one with what is left, or some that are one lower, or one
    that is so much higher, up to `most`."""
    count, left = divmod(rows, height)
    if not left:
        return [(count, 0, 0)]
    ways = [(count, left, 1)]
    lower = height - left  # as many tiles of one row less make up for it
    if height > 1 and count + 1 > lower > 1:
        ways.append((count + 1 - lower, height - 1, lower))
    if count > 1 and height + left <= most:
        ways.append((count - 1, height + left, 1))
    return ways

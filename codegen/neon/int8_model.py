"""Which tiles a product of bytes takes: those with the fewest instructions."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import NamedTuple

from codegen.neon.gemm_model import NARROW, WIDEST, heights
from codegen.neon.gemm_schedule import REGISTERS, ROWS
from codegen.neon.int8_ending import Ending
from codegen.neon.int8_tiles import MOST_SUMS, TILES, DotTile

CALL = 40  # instructions around a strip
CHAINS = 8  # accumulators that keep two pipes busy
PLAIN = Ending()


class Cut(NamedTuple):
    """How the rows of a line and the columns are cut: `tiles` of `rows`, then `last_tiles` of `last_rows`; panels
    of `vectors`, then one of `last_columns`, if that is not 0."""

    rows: int
    tiles: int
    last_rows: int
    last_tiles: int
    vectors: int
    panels: int
    last_columns: int
    cost: float


@cache
def tile_cost(variant: str, rows: int, vectors: int, depth: int, segments: int, in_order: bool = False) -> float | None:
    """Instructions of a tile, those for pipes that wait included; None if there are too few registers for it."""
    kind = TILES[variant]
    if variant == "base" and (vectors > 1 or rows > 4):
        return None
    sums = rows * vectors if variant != "i8mm" else -(-rows // 2) * 2 * vectors
    if variant != "base" and sums > MOST_SUMS:
        return None
    tile = DotTile(rows, vectors, in_order) if variant == "dotprod" else kind(rows, vectors)
    if tile.registers > REGISTERS:
        return None
    turns, rest = divmod(depth, tile.per_turn)
    wait = max(1.0, CHAINS / (4 * rows if variant == "base" else sums))
    loop = turns * (len(tile.turn()) + 1) + (len(tile.rest(rest)) + len(tile.begin()) if rest else 0)
    used = {r for g in tile.groups for r in g.sums}
    free = [r for r in range(REGISTERS) if r not in used]
    ends = len(tile.start()) + len(tile.reduce(0)) + len(PLAIN.lines(tile.groups, free)) + 3 * rows + 4
    return segments * (loop * wait + (rows + 4 if segments > 1 else 0)) + ends


@cache
def cut(variant: str, rows: int, columns: int, depth: int, segments: int = 1, in_order: bool = False) -> Cut:
    """The cheapest cut of a line of `rows`, each `segments` times `depth` elements, for so many columns."""
    found: Cut | None = None
    most = min(-(-columns // 4), NARROW if in_order and variant == "dotprod" else WIDEST)
    least = most if in_order and variant == "dotprod" else 1
    for height, wide in product(range(1, min(rows, ROWS) + 1), range(least, most + 1)):
        if tile_cost(variant, height, wide, depth, segments, in_order) is None:
            continue
        panels, last_columns = divmod(columns, 4 * wide)
        widths = [(panels, wide), (int(last_columns > 0), -(-last_columns // 4))]
        for count, last_rows, last_count in heights(rows, height):
            cost = 0.0
            for (many, width), (n, high) in product(widths, ((count, height), (last_count, last_rows))):
                if many and n:
                    cost += many * (n * (tile_cost(variant, high, width, depth, segments, in_order) or 0.0) + CALL)
            if found is None or cost < found.cost:
                found = Cut(height, count, last_rows, last_count, wide, panels, last_columns, cost)
    assert found is not None
    return found

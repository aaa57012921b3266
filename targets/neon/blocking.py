"""How much of an operand stays in which cache: block sizes of products from the data of cores (`cores.json`).

All columns of w pass by each block of rows of x, panel by panel. A panel is read once per tile and stays in the first
level as far as it fits; a block of rows is read once per panel, so it is to stay in the second level, of which it takes
half: the other half is for weights on their way and for results. The inner axis is not cut: accumulators would have to
be stored and read again, which costs more than panels that come from the second level, four registers per 16
multiply-accumulates.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

from compiler.errors import UsageError

KIB = 1024


class Core(NamedTuple):
    """Caches in bytes; `is_in_order` if instructions issue in the order of the program."""

    l1d: int
    l2: int
    is_in_order: bool


@cache
def core(name: str = "") -> Core:
    """A core by its name; without one the default. UsageError if it is unknown."""
    data = json.loads((Path(__file__).parent / "cores.json").read_text(encoding="utf-8"))
    found = data["cores"].get(name or data["default"])
    if found is None:
        raise UsageError(f"core {name!r} is unknown", hint=f"one of {', '.join(data['cores'])}")
    return Core(found["l1d"] * KIB, found["l2"] * KIB, found["in_order"])


def block(tiles: int, tile_bytes: int, of: Core | None = None) -> int:
    """How many tiles of rows, each of so many bytes of x, are done with all columns before the next ones begin: blocks
    of nearly the same size, as few as fit."""
    room = max((of or core()).l2 // 2 // max(tile_bytes, 1), 1)
    blocks = -(-tiles // room)
    return -(-tiles // blocks)

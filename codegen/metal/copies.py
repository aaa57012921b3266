"""Copies with any distances, and transposes through the memory of a threadgroup, in the Metal Shading Language."""

from __future__ import annotations

from math import prod

from codegen.metal.adapted import FORMS, Form
from codegen.metal.kernel import Numbers, Tile, metal_type
from codegen.metal.places import stepped, unpacked
from codegen.neon.copies import CopyStrided, Fill
from codegen.neon.transpose import Interleaving, Transposing

SIDE = 32  # rows and columns of a tile: a simdgroup reads a row of it, or writes a column
PITCH = SIDE + 1  # elements from one row of a tile to the next: those of a column lie in different banks


def _elements(k: CopyStrided, numbers: Numbers) -> int:
    return prod(int(numbers[f"n{axis}"]) for axis in range(k.rank))


def _outer(k: Transposing, numbers: Numbers) -> int:
    return prod(int(numbers[f"n{axis}"]) for axis in range(k.outer))


def _tiles(k: Transposing, numbers: Numbers) -> int:
    rows, columns = (-(-int(numbers[name]) // SIDE) for name in ("rows", "columns"))
    return _outer(k, numbers) * rows * columns


def _pixels(k: Interleaving, numbers: Numbers) -> int:
    return _outer(k, numbers) * int(numbers["rows" if k.is_split else "columns"])


def counted(name: str, count: int) -> list[str]:
    """Names with a number each."""
    return [f"{name}{i}" for i in range(count)]


AROUND = {"counted": counted, "stepped": stepped, "unpacked": unpacked}

FORMS[CopyStrided] = Form("metal/copy_strided.metal.j2", _elements, helpers=AROUND)
FORMS[Fill] = Form("metal/fill.metal.j2", lambda _, numbers: int(numbers["count"]))
FORMS[Interleaving] = Form("metal/interleave.metal.j2", _pixels, helpers=AROUND)
FORMS[Transposing] = Form(
    "metal/transpose.metal.j2",
    _tiles,
    positions=("group", "index"),
    is_grouped=True,
    tiles=lambda k: (Tile(metal_type(k.unit), "tile", SIDE * PITCH),),
    helpers={**AROUND, "side": lambda: SIDE, "pitch": lambda: PITCH},
)

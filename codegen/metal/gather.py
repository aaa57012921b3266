"""Elements at positions that are data, one result a thread, in the Metal Shading Language."""

from __future__ import annotations

from math import prod

from codegen.metal.adapted import FORMS, Form
from codegen.metal.kernel import Numbers
from codegen.metal.places import places
from codegen.neon.gather import Gather, GatherElements, GatherPositions, PadElements, ReverseSequence


def _gathered(_: Gather, numbers: Numbers) -> int:
    return int(numbers["outer"]) * int(numbers["count"]) * int(numbers.get("row", 1))


def _rows(_: GatherPositions, numbers: Numbers) -> int:
    return prod(int(numbers[name]) for name in ("batch", "count", "row"))


def _shape(k: GatherElements | ReverseSequence, _: Numbers) -> int:
    return prod(k.shape)


PLACED = {"places": places}

FORMS[Gather] = Form("metal/gather.metal.j2", _gathered)
FORMS[GatherElements] = Form("metal/gather_elements.metal.j2", _shape, helpers=PLACED)
FORMS[GatherPositions] = Form("metal/gather_positions.metal.j2", _rows)
FORMS[ReverseSequence] = Form("metal/reverse_sequence.metal.j2", _shape, helpers=PLACED)
FORMS[PadElements] = Form("metal/pad_elements.metal.j2", lambda k, _: prod(k.y[0]), helpers=PLACED)

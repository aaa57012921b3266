"""Elements put at positions that are data, in the Metal Shading Language. Updates that can meet at one place are put
there by one thread in their order, so that results do not depend on how threads run."""

from __future__ import annotations

from math import prod

from codegen.metal.adapted import FORMS, Form
from codegen.metal.kernel import Numbers
from codegen.metal.places import places
from codegen.neon.scatter import ScatterElements, ScatterPositions


def _lines(k: ScatterElements, _: Numbers) -> int:
    return prod(lines(k))


def lines(k: ScatterElements) -> list[int]:
    """The sizes of the updates, 1 along the axis of the index."""
    return [1 if axis == k.axis else size for axis, size in enumerate(k.shape)]


HELPERS = {"places": places, "lines": lines}

FORMS[ScatterElements] = Form("metal/scatter_elements.metal.j2", _lines, helpers=HELPERS)
FORMS[ScatterPositions] = Form("metal/scatter_positions.metal.j2", lambda _, numbers: int(numbers["row"]))

"""What gives as many results as data ask for, in the Metal Shading Language: one threadgroup, whose threads agree on
what each of them found."""

from __future__ import annotations

from codegen.metal.adapted import FORMS, ROW, Form
from codegen.metal.kernel import Numbers, Tile, metal_type
from codegen.metal.places import places
from codegen.neon.plain import Plain
from codegen.neon.selection import Compress, NonMaxSuppression, NonZero, Unique


def _one(_: Plain, __: Numbers) -> int:
    return 1


def _form(template: str, *tiles: tuple[str, str]) -> Form:
    """With arrays that have an element for each thread."""
    return Form(
        f"metal/{template}.metal.j2",
        _one,
        positions=("index",),
        is_grouped=True,
        tiles=lambda k: [Tile(metal_type(k.computed(k.ctype)) if t == "wide" else t, n, ROW) for t, n in tiles],
        helpers={"places": places, "threads": lambda: ROW},
    )


FORMS[NonZero] = _form("nonzero", ("uint", "found"))
FORMS[Compress] = _form("compress", ("uint", "found"))
FORMS[Unique] = _form("unique")
FORMS[NonMaxSuppression] = _form("non_max_suppression", ("wide", "tops"), ("uint", "bests"))

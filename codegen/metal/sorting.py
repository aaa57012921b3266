"""The best elements along an axis, and sums along it, in the Metal Shading Language."""

from __future__ import annotations

from codegen.metal.adapted import FORMS, Form
from codegen.metal.kernel import SIMD, Numbers
from codegen.neon.sorting import ArgExtreme, Cumulate, Line, TopK


def _lines(_: Line, numbers: Numbers) -> int:
    return int(numbers["outer"]) * int(numbers["inner"])


def _elements(k: TopK, numbers: Numbers) -> int:
    return _lines(k, numbers) * int(numbers["length"])


def shares(k: ArgExtreme) -> bool:
    """Whether the lanes of a simdgroup look for one extreme; they exchange no numbers of 64 bits."""
    return "64" not in k.ctype


def _searches(k: ArgExtreme, numbers: Numbers) -> int:
    return _lines(k, numbers) * (SIMD if shares(k) else 1)


FORMS[ArgExtreme] = Form("metal/arg_extreme.metal.j2", _searches, helpers={"shares": shares})
FORMS[Cumulate] = Form("metal/cumulate.metal.j2", _lines)
FORMS[TopK] = Form("metal/topk.metal.j2", _elements)

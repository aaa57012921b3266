"""Reductions along axes, softmax and norms of rows, in the Metal Shading Language.

Where the last axis goes, the lanes of a simdgroup share a result: each puts every 32nd element together, then they
exchange what they have. Else each thread makes a result, and neighbours read neighbours.
"""

from __future__ import annotations

from math import prod

from codegen.expression import Apply, Body, Operand, write
from codegen.metal.adapted import FORMS, Form
from codegen.metal.kernel import SIMD, Numbers, metal_type
from codegen.metal.scalar import METAL
from codegen.neon.norm import NormRows
from codegen.neon.reduce import NAMES, Reduce
from codegen.neon.softmax import SoftmaxRows


def shares(k: Reduce) -> bool:
    """Whether a simdgroup makes a result; its lanes exchange no numbers of 64 bits."""
    return k.reduced[-1] and metal_type(k.ctypes[1]) not in ("long", "ulong")


def step(k: Reduce) -> Body:
    """One more element `e`, put together with `sum`."""
    return write(k.step, METAL, NAMES)


def end(k: Reduce) -> Body:
    """The result, of `sum`."""
    return write(k.finish, METAL, NAMES, prefix="r")


def start(k: Reduce) -> str:
    """What no elements give."""
    return write(k.start, METAL, {}).result


def both(k: Reduce, a: str, b: str) -> str:
    """Two partial results put together."""
    made = Apply(k.combine, (Operand(0, k.ctypes[1]), Operand(1, k.ctypes[1])), k.ctypes[1])
    return METAL.writers[k.combine](made, [a, b])


def unpacked(axes: list[int], name: str) -> list[tuple[int, str]]:
    """For each of some axes the index along it, of the number `name` that counts elements along all of them."""
    made = []
    for at, axis in enumerate(axes):
        inner = "".join(f" / s.n{a}" for a in axes[at + 1 :])
        outer = f" % s.n{axis}" if at else ""
        made.append((axis, f"{name}{inner}{outer}"))
    return made


def count(axes: list[int]) -> str:
    """How many elements there are along some axes."""
    return " * ".join(f"s.n{axis}" for axis in axes) or "1"


def element(k: Reduce) -> str:
    """Where the element at i0, i1, ... lies."""
    text = "i0"
    for axis in range(1, len(k.reduced)):
        text = f"({text}) * s.n{axis} + i{axis}" if "+" in text else f"{text} * s.n{axis} + i{axis}"
    return text


def _threads(k: Reduce, numbers: Numbers) -> int:
    results = prod(int(numbers[f"n{axis}"]) for axis in k.axes(False))
    return results * (SIMD if shares(k) else 1)


def _rows(_: object, numbers: Numbers) -> int:
    return SIMD * int(numbers["rows"])


HELPERS = {
    "shares": shares,
    "step": step,
    "end": end,
    "start": start,
    "both": both,
    "unpacked": unpacked,
    "element": element,
    "count": count,
}
FORMS[Reduce] = Form("metal/reduce.metal.j2", _threads, helpers=HELPERS)
FORMS[SoftmaxRows] = Form("metal/softmax_rows.metal.j2", _rows)
FORMS[NormRows] = Form("metal/norm_rows.metal.j2", _rows)

"""Loops over elements, in the Metal Shading Language: a thread for each, the last axis along the grid's x."""

from __future__ import annotations

from math import prod

from codegen.expression import Body, write
from codegen.metal.adapted import FORMS, ROW, Form
from codegen.metal.kernel import Launch, Numbers, groups, planar
from codegen.metal.scalar import METAL
from codegen.neon.elementwise import Elementwise


def _launch(k: Elementwise, numbers: Numbers) -> Launch:
    sizes = [int(numbers[f"n{axis}"]) for axis in range(k.rank)]
    if k.rank == 1:
        return Launch((groups(sizes[0], ROW), 1, 1), (ROW, 1, 1))
    return planar(sizes[-1], prod(sizes[:-1]))


def body(k: Elementwise) -> Body:
    """What is done with elements named e0, e1, ..."""
    return write(k.expression, METAL, {o.index: f"e{o.index}" for o in k.used})


def place(k: Elementwise, operand: int) -> str:
    """The index of an operand's element for the result at row, i (the last axis), i0, i1, ... (those before it)."""
    has, last = k.axes[operand], k.rank - 1
    inner = "i" if has[last] else ""
    if all(has[:last]):
        outer = "row" if k.rank > 1 else ""
    else:
        terms = [
            " * ".join([f"i{axis}", *(f"s.n{after}" for after in range(axis + 1, last) if has[after])])
            for axis in range(last)
            if has[axis]
        ]
        outer = f"({' + '.join(terms)})" if len(terms) > 1 else "".join(terms)
    if outer and inner:
        return f"{outer} * s.n{last} + {inner}"
    return outer or inner or "0"


def outer_axes(k: Elementwise) -> list[int]:
    """The axes before the last along which places are needed: those of operands that lack others of them."""
    some = [has[:-1] for has in k.axes if not all(has[:-1])]
    return [axis for axis in range(k.rank - 1) if any(has[axis] for has in some)]


FORMS[Elementwise] = Form(
    "metal/elementwise.metal.j2",
    helpers={"body": body, "place": place, "outer_axes": outer_axes},
    launch=_launch,
)

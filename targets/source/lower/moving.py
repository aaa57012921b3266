"""How elements are moved: strided copies with as few axes as they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from codegen.neon.copies import CopyStrided
from codegen.program import Pointer
from compiler.graph import Node
from compiler.tensor import DType
from targets.source.lower.transposing import turn
from targets.source.program import Program, bytes_of


def dense(sizes: Sequence[int]) -> list[int]:
    """The distances between neighbours of an array that lies densely, in elements."""
    return [prod(sizes[i + 1 :]) for i in range(len(sizes))]


def at_element(p: Pointer, element: int, dtype: DType) -> Pointer:
    """So many elements further on."""
    return p._replace(offset=p.offset + element * bytes_of(dtype))


def move(
    p: Program,
    node: Node,
    dtype: DType,
    x: tuple[Pointer, Sequence[int]],
    y: tuple[Pointer, Sequence[int]],
    sizes: Sequence[int],
    title: str,
) -> None:
    """Copy an array of `sizes` from x to y, each with its distances along the axes, in elements."""
    if not prod(sizes):
        return
    sizes, s, t = merged(sizes, x[1], y[1])
    found = turn(bytes_of(dtype), sizes, s, t)
    if found is not None:
        p.call(found.kernel, x[0], y[0], *found.numbers, node=node, title=title, split=found.split)
        return
    is_row = s[-1] == t[-1] == 1
    first = sum((1 - n) * a for n, a in zip(sizes, s, strict=True) if a < 0)
    kernel = CopyStrided(size=bytes_of(dtype), rank=len(sizes), is_row=is_row, is_turned=first > 0)
    cut = len(sizes) - is_row
    numbers = [*sizes, *s[:cut], *t[:cut], *[first] * (first > 0)]
    p.call(kernel, at_element(x[0], -first, dtype), y[0], *numbers, node=node, title=title)


def merged(sizes: Sequence[int], s: Sequence[int], t: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """The same copy with neighbouring axes made one where they lie one in the other on both sides, and without axes of
    one element; at least one axis is left."""
    found: list[tuple[int, int, int]] = []
    for size, a, b in zip(sizes, s, t, strict=True):
        if size == 1:
            continue
        if found and found[-1][1] == size * a and found[-1][2] == size * b:
            found[-1] = (found[-1][0] * size, a, b)
        else:
            found.append((size, a, b))
    found = found or [(1, 1, 1)]
    return [f[0] for f in found], [f[1] for f in found], [f[2] for f in found]

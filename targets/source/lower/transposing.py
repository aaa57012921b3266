"""Which moves of elements are transposes, and the kernels for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from codegen.neon.transpose import BLOCKS, INTERLEAVED, Interleaving, Transposing
from codegen.program import Split


class Turn(NamedTuple):
    """A kernel that transposes, what it is told beside where to read and write, and how threads share its work."""

    kernel: Transposing
    numbers: Sequence[int]
    split: Split | None


def turn(size: int, sizes: Sequence[int], s: Sequence[int], t: Sequence[int]) -> Turn | None:
    """The kernel for a copy of elements of `size` bytes, with distances s and t along its axes; None if it is no
    transpose for which there is one."""
    if size not in BLOCKS or 1 not in s or 1 not in t or min(*s, *t) < 0:
        return None
    column, row = s.index(1), t.index(1)
    rows, columns = sizes[row], sizes[column]
    outer = [i for i in range(len(sizes)) if i not in (row, column)]
    if row == column:
        return None
    if rows in INTERLEAVED and t[column] == rows:
        kernel: Transposing = Interleaving(size=size, outer=len(outer), channels=rows)
    elif columns in INTERLEAVED and s[row] == columns:
        kernel = Interleaving(size=size, outer=len(outer), channels=columns, is_split=True)
    elif min(rows, columns) >= BLOCKS[size]:
        kernel = Transposing(size=size, outer=len(outer))
    else:
        return None
    steps = [side[i] for side in (s, t) for i in outer]
    counts = [sizes[i] for i in outer]
    known = {"rows": rows, "columns": columns, "s": s[row], "t": t[column]}
    numbers = [known[name] for name in kernel.axes]
    split = None
    if outer:
        split = Split(counts[0], count="n0", steps={"x": size * s[outer[0]], "y": size * t[outer[0]]})
    return Turn(kernel, [*counts, *numbers, *steps], split)

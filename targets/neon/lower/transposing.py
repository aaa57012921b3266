"""Which moves of elements are transposes, and the kernels for them."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.transpose import BLOCKS, INTERLEAVED, Interleaving, Transposing
from codegen.program import Pointer, Split
from compiler.graph import Node
from targets.neon.program import Program


def transposed(
    p: Program,
    node: Node,
    size: int,
    places: tuple[Pointer, Pointer],
    sizes: Sequence[int],
    s: Sequence[int],
    t: Sequence[int],
    title: str,
) -> bool:
    """Whether a copy of elements of `size` bytes, with distances s and t along its axes, is a transpose for which there
    is a kernel, and now is called."""
    if size not in BLOCKS or 1 not in s or 1 not in t or min(*s, *t) < 0:
        return False
    column, row = s.index(1), t.index(1)
    rows, columns = sizes[row], sizes[column]
    outer = [i for i in range(len(sizes)) if i not in (row, column)]
    if row == column:
        return False
    if rows in INTERLEAVED and t[column] == rows:
        kernel: Transposing = Interleaving(size=size, outer=len(outer), channels=rows)
    elif columns in INTERLEAVED and s[row] == columns:
        kernel = Interleaving(size=size, outer=len(outer), channels=columns, is_split=True)
    elif min(rows, columns) >= BLOCKS[size]:
        kernel = Transposing(size=size, outer=len(outer))
    else:
        return False
    steps = [side[i] for side in (s, t) for i in outer]
    counts = [sizes[i] for i in outer]
    known = {"rows": rows, "columns": columns, "s": s[row], "t": t[column]}
    numbers = [known[name] for name in kernel.axes]
    split = None
    if outer:
        split = Split(counts[0], count="n0", steps={"x": size * s[outer[0]], "y": size * t[outer[0]]})
    p.call(kernel, *places, *counts, *numbers, *steps, node=node, title=title, split=split)
    return True

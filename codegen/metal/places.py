"""Where the results of a kernel lie, of which a thread makes each: indices along axes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod


def places(sizes: Sequence[int], body: str, of: str = "at.x") -> list[str]:
    """Statements that give the index along each axis, i0, i1, ... as int, of the number `of` that counts elements of
    an array of these sizes: of those indices that `body` reads."""
    used = set(re.findall(r"\b\w+\b", body))
    made = []
    for axis, size in enumerate(sizes):
        inner = prod(sizes[axis + 1 :])
        outer = f" % {size}" if prod(sizes[:axis]) != 1 else ""
        text = f"int({of}{f' / {inner}' if inner != 1 else ''}{outer})" if size != 1 else "0"
        if f"i{axis}" in used:
            made.append(f"const int i{axis} = {text};")
    return made


def unpacked(names: Sequence[str], of: str) -> list[str]:
    """Statements that give i0, i1, ... for axes whose lengths are the numbers `names` of a kernel, of an expression
    that counts elements."""
    if len(names) == 1:
        return [f"const uint i0 = {of};"]
    made = [f"uint rest = {of};"]
    for axis in range(len(names) - 1, 0, -1):
        made += [f"const uint i{axis} = rest % s.{names[axis]};", f"rest /= s.{names[axis]};"]
    return [*made, "const uint i0 = rest;"]


def stepped(count: int, side: str, kind: str = "uint") -> str:
    """Where an element lies for the indices i0, i1, ... and the distances that are numbers of the kernel; `kind` is
    their type."""
    return " + ".join(f"i{i} * s.{side}{i}" if kind == "uint" else f"int(i{i}) * s.{side}{i}" for i in range(count))

"""Where rows of a product lie."""

from __future__ import annotations

from typing import NamedTuple


class Walk(NamedTuple):
    """`lines` lines of `m` rows, and of a row what goes on side by side, then how often that is repeated and how far
    apart, the inner first; distances are in elements."""

    lines: int
    m: int
    x_line: int
    y_line: int
    ldx: int
    ldy: int
    depth: int
    spans: tuple[tuple[int, int], ...]

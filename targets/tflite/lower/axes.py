"""Shapes on fewer axes: what stays together is one."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


def merged_axes(shapes: Sequence[tuple[int, ...]], shape: Sequence[int]) -> list[list[int]]:
    """The axes of a broadcast result in runs along which every operand is either spread or not."""
    groups: list[list[int]] = []
    last: tuple[bool, ...] = ()
    for axis, d in enumerate(shape):
        lead = [axis - len(shape) + len(s) for s in shapes]
        own = [s[i] if i >= 0 else 1 for s, i in zip(shapes, lead, strict=True)]
        pattern = tuple(n == d for n in own)
        if groups and (pattern == last or d == 1):
            groups[-1].append(axis)
        else:
            groups.append([axis])
            last = pattern
    return groups


def merged_permutation(dims: Sequence[int], perm: Sequence[int]) -> tuple[list[int], list[int]]:
    """The same movement on fewer axes: those of length 1 dropped, neighbours that stay neighbours merged. Returns the
    shape of the operand and the permutation."""
    runs: list[list[int]] = []
    for axis in (i for i in perm if dims[i] != 1):
        between = range(runs[-1][-1] + 1, axis) if runs else ()
        if runs and axis > runs[-1][-1] and all(dims[i] == 1 for i in between):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    order = sorted(range(len(runs)), key=lambda r: runs[r][0])
    shape = [prod(dims[i] for i in runs[r]) for r in order]
    return shape or [1], [order.index(r) for r in range(len(runs))] or [0]


def runs_of(axes: Sequence[int]) -> list[list[int]]:
    """Ascending axes, those that follow one another together."""
    runs: list[list[int]] = []
    for axis in axes:
        if runs and runs[-1][-1] + 1 == axis:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs


def same_axis(shape: Sequence[int], other: Sequence[int], axis: int) -> int | None:
    """The axis of `other`, the same elements in the same order under another shape, that is `axis` of `shape`; None if
    that is no axis of it."""
    before, length = prod(shape[:axis]), shape[axis]
    return next((i for i, d in enumerate(other) if d == length and prod(other[:i]) == before), None)

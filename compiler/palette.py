"""Palettes: the places of numbers in their table, and back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compiler.tensor import Array, Palette


def places(array: Array, palette: Palette) -> Array:
    """The place (uint8) of the entry nearest to each number, of two that are as near the lower."""
    found = np.empty(array.shape, np.uint8)
    for table, part in _groups(palette, array.ndim, array.shape):
        middles = (table[1:] + table[:-1]) / 2
        found[part] = np.searchsorted(middles, array[part]).astype(np.uint8)
    return found


def looked_up(stored: Array, palette: Palette) -> Array:
    """The numbers (float32) at places."""
    numbers = np.empty(stored.shape, np.float32)
    for table, part in _groups(palette, stored.ndim, stored.shape):
        numbers[part] = table.astype(np.float32)[stored[part]]
    return numbers


def _groups(palette: Palette, rank: int, dims: tuple[int, ...]) -> Iterator[tuple[Array, tuple[slice, ...]]]:
    """Each table and the part of the tensor that it is for."""
    tables = np.array(palette.tables, np.float64)
    if palette.axis is None:
        yield tables[0], (slice(None),) * rank
        return
    size = dims[palette.axis] // len(tables)
    for i, table in enumerate(tables):
        yield table, (*[slice(None)] * palette.axis, slice(i * size, (i + 1) * size))

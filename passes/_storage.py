"""Weights that consist of the very numbers of some storage: which one holds them, and what is read back of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.graph import Graph, Value
from compiler.palette import looked_up, places
from compiler.quantize import dequantized, quantized
from compiler.tensor import Array, Block, Palette, QuantParams
from passes._compression import Work
from passes._fitted import data_of
from passes._sparse import bytes_of, is_sparse
from passes._weight_bits import (
    TYPES,
    Axes,
    Storage,
    bits_in,
    block_size,
    compressed,
    floats_in,
    in_halves,
    refusal,
    set_annotation,
    storage_of,
    weight_axes,
)

HALF = 2  # bytes of fp16
EXACT = 1e-5  # relative difference of numbers that are taken for the same


def storages_of(text: str) -> list[Storage]:
    """Of several, as int8+palette4/16. UsageError if one is nothing."""
    return [storage_of(part) for part in text.split("+") if part]


def expanded(data: Array, annotation: QuantParams | Palette) -> Array:
    """The numbers that are read back of a weight, in its type."""
    if isinstance(annotation, Palette):
        return looked_up(places(data, annotation), annotation).astype(data.dtype)
    return dequantized(quantized(data, annotation, narrow=True), annotation).astype(data.dtype)


def outline(v: Value, storage: Storage) -> QuantParams | Palette:
    """An annotation of the right size, with scales and tables of nothing."""
    axes, dims = weight_axes(v), v.type.dims
    along = axes.results if storage.kind.startswith("palette") else axes.summed
    size = block_size(dims[along], storage.block)
    if along == axes.results:
        table = (0.0,) * (1 << storage.bits)
        return Palette((table,) * (dims[along] // size if size else 1), along if size else None)
    count = dims[axes.results] * (dims[along] // size if size else 1)
    block = Block(along, size) if size else None
    return QuantParams((1.0,) * count, (0,) * count, axes.results, TYPES[storage.kind], block)


def as_stored(work: Work, graph: Graph, each: float, share: float | None) -> Work:
    """The work of a graph where a float, and so a scale, takes `each` bytes, and weights with at least a share of zeros
    are stored as a mask and the numbers that are left (None: none are)."""
    weights = {id(v.data): v for v in graph.constants if is_sparse(v, share)}
    packed, bits = work.packed, work.bits
    if each > HALF:
        stored = {id(v.data): v.type.palette or v.type.quant for v in graph.constants}
        bits += sum(16 * floats_in(annotation) for annotation in stored.values() if annotation is not None)
    for v in weights.values():
        annotation = v.type.palette or v.type.quant
        number = 8 * each if annotation is None else bits_in(annotation, 1) - bits_in(annotation, 0)
        dense = v.type.size * number
        bits += int(8 * bytes_of(data_of(v), number, share) - (0 if annotation is None else dense))
        packed += v.type.size if annotation is None else 0
    return work._replace(packed=packed, bits=bits)


def keep(v: Value, storages: Sequence[Storage], halves: bool) -> str | None:
    """Say of a constant that it is stored in the way that holds its very numbers in the fewest bits; returns why it
    stays as it is, if it does."""
    reason = refusal(v)
    if reason is not None:
        return reason
    data, axes = np.asarray(v.data), weight_axes(v)
    for storage in sorted(storages, key=lambda s: (s.bits, not s.kind.startswith("palette"), s.block == 0)):
        found = _exact(data, axes, storage)
        if found is not None:
            set_annotation(v, in_halves(found) if halves else found)
            return None
    return f"its numbers are not those of {' or '.join(map(str, storages))}"


def _exact(data: Array, axes: Axes, storage: Storage) -> QuantParams | Palette | None:
    if storage.kind.startswith("palette"):
        return _table_of_all(data, axes, storage)
    found = compressed(data, axes, *storage)
    return found if np.allclose(expanded(data, found), data, rtol=EXACT, atol=0) else None


def _table_of_all(data: Array, axes: Axes, storage: Storage) -> Palette | None:
    """A palette of all the different numbers, if its tables hold so many."""
    entries = 1 << storage.bits
    length = data.shape[axes.results]
    size = block_size(length, storage.block)
    found = [np.unique(part) for part in np.split(data, length // size if size else 1, axes.results)]
    if max(table.size for table in found) > entries:
        return None
    tables = (np.pad(table, (0, entries - table.size), "edge") for table in found)
    return Palette(tuple(tuple(table.astype(np.float64).tolist()) for table in tables), axes.results if size else None)

"""How the numbers of one weight are stored in few bits, and which constants are weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.errors import UsageError
from compiler.graph import Node, Value
from compiler.quantize import block_peaks, peaks_along, rounded_up, symmetric
from compiler.tensor import I4, I8, Array, Block, Palette, QuantParams
from passes._palette import palette_of

KINDS = ("int8", "int4", *(f"palette{bits}" for bits in (1, 2, 3, 4, 6, 8)))
BLOCK = 32  # of int4, where no size is asked for
LEAST = 2048  # elements; what a smaller weight saves is hardly worth a layer that expands it
LARGEST = float(np.finfo(np.float16).max)
TYPES = {"int8": I8, "int4": I4}


class Axes(NamedTuple):
    """Of a weight: the axis of its results and the one that is summed over."""

    results: int
    summed: int


def axes_of(node: Node, index: int) -> Axes | None:
    """The axes of an operand as the weight of a layer; None if it is not its weight. The rows of a table that a gather
    looks up are its results."""
    v, kind = node.inputs[index], node.op.name
    rank = 0 if v is None else v.type.rank
    if kind == "matmul" and rank >= 2:
        return Axes(rank - 1, rank - 2) if index else Axes(rank - 2, rank - 1)
    if kind == "gather" and index == 0 and rank == 2 and getattr(node.op, "axis", 0) == 0:
        return Axes(0, 1)
    if index != 1 or kind not in ("conv", "conv_transpose", "dense"):
        return None
    rows = kind == "conv" or getattr(node.op, "transposed", False)
    return Axes(0, 1) if rows else Axes(1, 0)


def annotate(v: Value, kind: str, block: int, halves: bool) -> str | None:
    """Say of a constant how it is stored; returns why it stays as it is, if it does. `halves`: with scales and tables
    of numbers that fp16 holds."""
    reason = _refusal(v)
    if reason is None:
        reader = next(iter(v.users))
        axes = axes_of(reader, next(i for i, operand in enumerate(reader.inputs) if operand is v))
        assert axes is not None
        chosen = _compressed(np.asarray(v.data), axes, kind, block)
        if isinstance(chosen, Palette):
            v.type = v.type._replace(palette=_table_in_halves(chosen) if halves else chosen)
        else:
            v.type = v.type._replace(quant=_scale_in_halves(chosen) if halves else chosen)
    return reason


def _refusal(v: Value) -> str | None:
    """Why a constant stays as it is; None if it is a weight that can be stored in fewer bits."""
    assert v.data is not None
    roles = {axes_of(user, i) for user in v.users for i, operand in enumerate(user.inputs) if operand is v}
    if len(roles) != 1 or None in roles or v.n_out:
        return "it is not only the weight of a convolution, a matrix product or a lookup of rows, in one orientation"
    if v.type.size < LEAST:
        return f"it has {v.type.size} elements; fewer than {LEAST} save next to nothing"
    if not np.isfinite(v.data).all():
        return "it holds numbers that are not finite"
    return None if np.abs(v.data).max() <= LARGEST else f"it holds numbers beyond {LARGEST:.0f}, the end of fp16"


def _compressed(data: Array, axes: Axes, kind: str, block: int) -> QuantParams | Palette:
    """Integers: one scale for each result and `block` neighbours that are summed over, 0: all of them. A palette: one
    table for `block` neighbouring results, 0: all of them."""
    if kind.startswith("palette"):
        return palette_of(data, int(kind[-1]), axes.results, _divisor(data.shape[axes.results], block))
    size = _divisor(data.shape[axes.summed], block)
    if size:
        blocks = Block(axes.summed, size)
        return symmetric(block_peaks(data, axes.results, blocks), axes.results, TYPES[kind], blocks)
    return symmetric(peaks_along(data, axes.results), axes.results, TYPES[kind])


def _table_in_halves(palette: Palette) -> Palette:
    tables = np.array(palette.tables, np.float16).astype(np.float64)
    return palette._replace(tables=tuple(map(tuple, tables.tolist())))


def _scale_in_halves(params: QuantParams) -> QuantParams:
    scales = rounded_up(np.array(params.scale), np.dtype(np.float16))
    return params._replace(scale=tuple(scales.astype(np.float64).tolist()))


def _divisor(length: int, block: int) -> int:
    """The largest block of at most the asked size that cuts an axis into equal parts; 0: the axis stays whole, because
    it is no longer than that or could only be cut into blocks of less than a quarter of the size."""
    if not block or length <= block:
        return 0
    found = next(size for size in range(block, 0, -1) if length % size == 0)
    return found if 4 * found >= block else 0


def expect_kind(kind: str, block: int | None) -> None:
    """UsageError for a kind or a block size that there is not."""
    if kind not in KINDS:
        raise UsageError(f"weights cannot be stored as {kind!r}", hint=f"choose one of {', '.join(KINDS)}")
    if block is not None and (block < 0 or block == 1):
        raise UsageError(
            f"weights cannot be cut into blocks of {block}", hint="0 for none, else 2 or more; 32 is usual"
        )


def bits_of(v: Value) -> int:
    """How many bits an annotated weight takes with its scales, or tables, in 16 bits."""
    if v.type.palette is not None:
        return v.type.size * v.type.palette.bits + 16 * sum(map(len, v.type.palette.tables))
    assert v.type.quant is not None
    return v.type.size * v.type.quant.dtype.bits + 16 * len(v.type.quant.scale)

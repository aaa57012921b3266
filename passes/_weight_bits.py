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


class Storage(NamedTuple):
    """A kind of storage, and its block (0: none); as text `int8`, `int4/32`, `palette4/16`."""

    kind: str
    block: int = 0

    @property
    def bits(self) -> int:
        """Of a number."""
        return int(self.kind[-1])

    def __str__(self) -> str:
        return f"{self.kind}/{self.block}" if self.block else self.kind


def storage_of(text: str) -> Storage:
    """What a text stands for; UsageError if it is nothing."""
    kind, _, block = text.partition("/")
    if block and not block.isdecimal():
        raise UsageError(f"{text!r} is no storage of weights", hint="such as int8, int4/32 or palette4/16")
    storage = Storage(kind, int(block or 0))
    expect_kind(storage.kind, storage.block)
    return storage


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
    reason = refusal(v)
    if reason is None:
        set_annotation(v, annotation_for(v, Storage(kind, block), halves))
    return reason


def annotation_for(v: Value, storage: Storage, halves: bool) -> QuantParams | Palette:
    """How a weight, of which there is no `refusal`, is stored with the least error in each number."""
    chosen = compressed(np.asarray(v.data), weight_axes(v), *storage)
    return in_halves(chosen) if halves else chosen


def set_annotation(v: Value, annotation: QuantParams | Palette) -> None:
    """Let a constant be stored so."""
    if isinstance(annotation, Palette):
        v.type = v.type._replace(palette=annotation)
    else:
        v.type = v.type._replace(quant=annotation)


def weight_axes(v: Value) -> Axes:
    """Of a constant that is a weight."""
    reader = next(iter(v.users))
    axes = axes_of(reader, next(i for i, operand in enumerate(reader.inputs) if operand is v))
    assert axes is not None
    return axes


def is_weight(v: Value) -> bool:
    """Whether a constant is the weight of layers that all have its results along the same axis, and nothing else."""
    roles = {axes_of(user, i) for user in v.users for i, operand in enumerate(user.inputs) if operand is v}
    return len(roles) == 1 and None not in roles and not v.n_out


def refusal(v: Value) -> str | None:
    """Why a constant stays as it is; None if it is a weight that can be stored in fewer bits."""
    assert v.data is not None
    if not is_weight(v):
        return "it is not only the weight of a convolution, a matrix product or a lookup of rows, in one orientation"
    if v.type.size < LEAST:
        return f"it has {v.type.size} elements; fewer than {LEAST} save next to nothing"
    if not np.isfinite(v.data).all():
        return "it holds numbers that are not finite"
    return None if np.abs(v.data).max() <= LARGEST else f"it holds numbers beyond {LARGEST:.0f}, the end of fp16"


def compressed(data: Array, axes: Axes, kind: str, block: int) -> QuantParams | Palette:
    """Integers: one scale for each result and `block` neighbours that are summed over, 0: all of them. A palette: one
    table for `block` neighbouring results, 0: all of them."""
    if kind.startswith("palette"):
        return palette_of(data, int(kind[-1]), axes.results, block_size(data.shape[axes.results], block))
    size = block_size(data.shape[axes.summed], block)
    if size:
        blocks = Block(axes.summed, size)
        return symmetric(block_peaks(data, axes.results, blocks), axes.results, TYPES[kind], blocks)
    return symmetric(peaks_along(data, axes.results), axes.results, TYPES[kind])


def in_halves(annotation: QuantParams | Palette) -> QuantParams | Palette:
    """With tables, or scales that are no smaller, of numbers that fp16 holds."""
    if isinstance(annotation, Palette):
        tables = np.array(annotation.tables, np.float16).astype(np.float64)
        return annotation._replace(tables=tuple(map(tuple, tables.tolist())))
    scales = rounded_up(np.array(annotation.scale), np.dtype(np.float16))
    return annotation._replace(scale=tuple(scales.astype(np.float64).tolist()))


def block_size(length: int, block: int) -> int:
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
    annotation = v.type.palette or v.type.quant
    assert annotation is not None
    return bits_in(annotation, v.type.size)


def bits_in(annotation: QuantParams | Palette, size: int) -> int:
    """The same for a weight of `size` numbers."""
    width = annotation.bits if isinstance(annotation, Palette) else annotation.dtype.bits
    return size * width + 16 * floats_in(annotation)


def floats_in(annotation: QuantParams | Palette) -> int:
    """How many scales there are, or entries of tables."""
    return sum(map(len, annotation.tables)) if isinstance(annotation, Palette) else len(annotation.scale)

"""Weights in fewer bits: the operation of the dialect that expands an annotated constant, and its operands.

Scales and tables are of the element type that the weight expands to. Scales are rounded up to it, so that the largest
number is still reached, before the integers are chosen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.graph import Graph
from compiler.palette import places
from compiler.quantize import counts, quantized, rounded_up
from compiler.tensor import Array, Palette, QuantParams
from targets.apple.weights import INTEGERS, annotation_of
from targets.coreai.dtypes import TYPES


class Form(NamedTuple):
    """An operation that expands a constant, and its operands with their element types."""

    operation: str
    operands: tuple[tuple[Array, str], ...]


def form(data: Array, annotation: QuantParams | Palette, dtype: str) -> Form:
    """The operation for a constant that expands to an element type of floats."""
    if isinstance(annotation, Palette):
        return _table(data, annotation, dtype)
    kind = INTEGERS[annotation.dtype]
    scale = rounded_up(np.array(annotation.scale), TYPES[dtype].numpy)
    held = annotation._replace(scale=tuple(scale.astype(np.float64).tolist()))
    narrow = annotation.dtype.kind == "i" and not any(annotation.zero_point)
    stored = quantized(data, held, narrow=narrow).astype(TYPES[kind].numpy)
    grid = counts(annotation, data.shape)
    zero = np.array(annotation.zero_point, TYPES[kind].numpy).reshape(grid)
    offset = np.zeros(grid, TYPES[dtype].numpy)
    operands = ((stored, kind), (scale.reshape(grid), dtype), (zero, kind), (offset, dtype))
    return Form("blockwise_shift_scale", operands)


def _table(data: Array, palette: Palette, dtype: str) -> Form:
    tables = np.array(palette.tables).astype(TYPES[dtype].numpy)
    held = Palette(tuple(map(tuple, tables.astype(np.float64).tolist())), palette.axis)
    stored = places(data, held)
    groups = [len(tables) if i == palette.axis else 1 for i in range(data.ndim)]
    lut = tables.reshape(*groups, -1, 1)
    return Form("lut_to_dense", ((stored, f"uint{palette.bits}"), (lut, dtype), (np.array(0), "int16")))


def in_blocks(graph: Graph) -> list[str]:
    """What to know of weights with several scales along an axis that is summed over."""
    annotations = [annotation_of(c.type) for c in graph.constants if c.users]
    count = sum(isinstance(a, QuantParams) and a.block is not None for a in annotations)
    told = (
        f"{count} weights have a scale for each block of what is summed over, which the Neural Engine does not take: "
        "their layers run elsewhere (one scale for each channel: --block-size 0)"
    )
    return [told] if count else []

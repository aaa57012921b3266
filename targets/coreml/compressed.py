"""Weights in fewer bits: the `constexpr_*` operation that expands an annotated constant, and its operands.

Scales and tables are of the element type that the weight expands to. Scales are rounded up to it, so that the largest
number is still reached, before the integers are chosen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.palette import places
from compiler.quantize import counts, quantized, rounded_up
from compiler.tensor import Array, Palette, QuantParams
from targets.apple.weights import INTEGERS
from targets.coreml.dtypes import TYPES, pack_bits
from targets.coreml.mil import Literal

PLACES_IOS16 = (1, 2, 4, 6, 8)  # bits that a place in a table can have; 3 came later
BLOCKWISE = 18  # the iOS version since which there are blocks, 4-bit integers, 3-bit places, and several tables


class Form(NamedTuple):
    """A constexpr operation and its operands."""

    operation: str
    operands: dict[str, Literal | tuple[Array, str]]


def needed_ios(kind: str, block: int) -> int:
    """The oldest iOS version for weights of a kind of the pass annotate-weights."""
    if kind.startswith("palette"):
        bits = int(kind.removeprefix("palette"))
        return 16 if bits in PLACES_IOS16 and not block else BLOCKWISE
    return 16 if kind == "int8" and not block else BLOCKWISE


def form(data: Array, annotation: QuantParams | Palette, dtype: str, ios: int) -> Form:
    """The operation for a constant that expands to MIL type `dtype`."""
    if isinstance(annotation, Palette):
        return _table(data, annotation, dtype, ios)
    kind = INTEGERS[annotation.dtype]
    scale = rounded_up(np.array(annotation.scale), TYPES[dtype].numpy)
    held = annotation._replace(scale=tuple(scale.astype(np.float64).tolist()))
    narrow = annotation.dtype.kind == "i" and not any(annotation.zero_point)
    stored = quantized(data, held, narrow=narrow).astype(TYPES[kind].numpy)
    zero = np.array(annotation.zero_point, TYPES[kind].numpy)
    if kind in ("int8", "uint8") and annotation.block is None:
        shape = () if annotation.axis is None else (-1,)
        scales, zeros = scale.reshape(shape), zero.reshape(shape)
        axis = annotation.axis or 0
        return Form(
            "constexpr_affine_dequantize",
            {"quantized_data": (stored, kind), "zero_point": (zeros, kind), "scale": (scales, dtype), "axis": axis},
        )
    grid = counts(annotation, data.shape)
    operands: dict[str, Literal | tuple[Array, str]] = {"data": (stored, kind), "scale": (scale.reshape(grid), dtype)}
    if zero.any():
        operands["offset"] = (zero.reshape(grid), kind)
    return Form("constexpr_blockwise_shift_scale", operands)


def _table(data: Array, palette: Palette, dtype: str, ios: int) -> Form:
    """The lookup of iOS 16, of packed places, where it exists and does; else that of iOS 18."""
    tables = np.array(palette.tables).astype(TYPES[dtype].numpy)
    held = Palette(tuple(map(tuple, tables.astype(np.float64).tolist())), palette.axis)
    stored = places(data, held)
    if ios < BLOCKWISE and palette.bits in PLACES_IOS16 and len(tables) == 1:
        packed = np.frombuffer(pack_bits(stored, palette.bits), np.uint8)
        shape = np.array(data.shape, np.uint32)
        return Form("constexpr_lut_to_dense", {"indices": packed, "lut": (tables[0], dtype), "shape": shape})
    groups = [len(tables) if i == palette.axis else 1 for i in range(data.ndim)]
    lut = tables.reshape(*groups, -1, 1)
    return Form("constexpr_lut_to_dense", {"indices": (stored, f"uint{palette.bits}"), "lut": (lut, dtype)})

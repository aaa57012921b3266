"""Annotated constants, which are stored in fewer bits and expanded on the device: what Core ML and Core AI share."""

from __future__ import annotations

import numpy as np

from compiler.graph import Graph, Value
from compiler.quantize import counts
from compiler.tensor import I4, I8, U4, U8, Array, Palette, QuantParams, TensorType

INTEGERS = {I8: "int8", U8: "uint8", I4: "int4", U4: "uint4"}


def annotation_of(t: TensorType) -> QuantParams | Palette | None:
    """In what a constant is stored that the device expands; None if as it is."""
    if t.palette is not None:
        return t.palette
    return t.quant if t.quant is not None and t.quant.dtype in INTEGERS else None


def transposed(v: Value) -> tuple[Array, QuantParams | Palette]:
    """The transpose of an annotated matrix, and its annotation."""
    assert v.data is not None
    if v.type.palette is not None:
        axis = v.type.palette.axis
        return v.data.T, v.type.palette._replace(axis=None if axis is None else 1 - axis)
    q = v.type.quant
    assert q is not None
    grid = counts(q, v.data.shape)
    scale, zero = (np.array(a).reshape(grid).T.reshape(-1).tolist() for a in (q.scale, q.zero_point))
    axis, block = q.axis, q.block
    turned = q._replace(
        scale=tuple(scale),
        zero_point=tuple(zero),
        axis=None if axis is None else 1 - axis,
        block=None if block is None else block._replace(axis=1 - block.axis),
    )
    return v.data.T, turned


def share(graph: Graph) -> str:
    """How much of a model's weights is stored in fewer bits."""
    weights = [c for c in graph.constants if c.type.dtype.is_float and c.users]
    stored = [c for c in weights if annotation_of(c.type) is not None]
    part, whole = (sum(c.type.size for c in found) for found in (stored, weights))
    return f"{len(stored)} weights, {100 * part / max(whole, 1):.0f} % of all numbers in constants, are in fewer bits"

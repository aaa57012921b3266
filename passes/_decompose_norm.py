"""Normalisations by simpler ones."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.tensor import F32
from passes._decompose import Layers, decomposes


@decomposes(ops.BatchNorm)
def _batch_norm(add: Layers, op: ops.BatchNorm, x: Value, *parameters: Value) -> Value:
    """The scale and shift that it amounts to, computed in f64 where the parameters are constants."""
    scale, bias, mean, variance = parameters
    known = [v.data for v in parameters if v.data is not None]
    if len(known) == 4:
        g, b, m, v = (c.astype(np.float64) for c in known)
        k = g / np.sqrt(v + op.eps)
        factor, shift = add.const(k, x.type.dtype), add.const(b - m * k, x.type.dtype)
    else:
        root = add(ops.Sqrt(), add(ops.Add(), variance, op.eps))
        factor = add.cast(add(ops.Div(), add.cast(scale, root.type.dtype), root), x.type.dtype)
        middle = add(ops.Mul(), add.cast(mean, x.type.dtype), factor)
        shift = add(ops.Sub(), add.cast(bias, x.type.dtype), middle)
    shape = (-1, *[1] * (x.type.rank - 2))
    column = [add.reshape(v, (v.type.size, *shape[1:])) for v in (factor, shift)]
    return add(ops.Add(), add(ops.Mul(), x, column[0]), column[1])


@decomposes(ops.LocalResponseNorm)
def _local_response_norm(add: Layers, op: ops.LocalResponseNorm, x: Value) -> Value:
    """The mean of squares is a pool over the channels; an even window has one channel more after than before."""
    dims, before = x.type.dims, (op.size - 1) // 2
    wide = add.cast(x, F32) if x.type.dtype.bits < 32 else x
    rows = add.reshape(add(ops.Mul(), wide, wide), (dims[0], 1, dims[1], prod(dims[2:])))
    pool = ops.AveragePool(
        kernel=(op.size, 1),
        strides=(1, 1),
        pads=(before, 0, op.size - 1 - before, 0),
        dilations=(1, 1),
        count_include_pad=True,
    )
    mean = add.reshape(add(pool, rows), dims)
    spread = add(ops.Add(), add(ops.Mul(), mean, op.alpha), op.bias)
    return add.cast(add(ops.Mul(), wide, add(ops.Pow(), spread, -op.beta)), x.type.dtype)

"""Fourier transforms as products with constant matrices, and of frames as a convolution with them."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.tensor import I64
from passes._decompose import FOLDED, Layers, decomposes


@decomposes(ops.DFT)
def _dft(add: Layers, op: ops.DFT, x: Value) -> Value | None:
    """The transform is linear in the numbers along its axis and their two parts: one matrix, made of what the
    operation gives for unit vectors, on both as one axis. Another axis than the last but one takes its place first."""
    dims, out = x.type.dims, add.node.output.type.dims
    rank, rows, columns = len(dims), dims[op.axis] * dims[-1], out[op.axis] * out[-1]
    if op.axis != rank - 2:
        order = [*(i for i in range(rank - 1) if i != op.axis), op.axis, rank - 1]
        moved = add(op.with_(axis=rank - 2), add.transpose(x, order))
        return add.transpose(moved, [order.index(i) for i in range(rank)])
    if rows * max(rows, columns) > FOLDED:
        return None
    units = np.eye(rows).reshape(rows, dims[op.axis], dims[-1])
    matrix = add.const(op.with_(axis=1).evaluate(units).reshape(rows, columns), x.type.dtype)
    flat = add.reshape(x, (x.type.size // rows, rows))
    return add.reshape(add(ops.MatMul(), flat, matrix), out)


@decomposes(ops.STFT)
def _stft(add: Layers, op: ops.STFT, x: Value, window: Value | None = None) -> Value | None:
    """Filters that are the rows of the transform's matrix, times the window, sliding by `step`; with a computed
    window, the transform of the frames times it."""
    (batch, frames, bins, _), parts = add.node.output.type.dims, x.type.dims[2]
    if (op.length * parts) ** 2 > FOLDED:
        return None
    transform = ops.DFT(axis=1, length=op.length, onesided=op.onesided)
    if window is not None and window.data is None:
        places = np.arange(frames)[:, None] * op.step + np.arange(op.length)
        framed = add(ops.Gather(axis=1), x, add.const(places, I64))
        weighted = add(ops.Mul(), framed, add.reshape(window, (op.length, 1)))
        return add(transform.with_(axis=2), weighted)
    units = np.eye(op.length * parts).reshape(op.length * parts, op.length, parts)
    filters = transform.evaluate(units).reshape(op.length, parts, -1).transpose(2, 1, 0)
    given = 1.0 if window is None or window.data is None else window.data.astype(np.float64)
    weight = add.const(filters * given, x.type.dtype)
    slide = ops.Conv(strides=(op.step,), pads=(0, 0), dilations=(1,))
    y = add(slide, add.transpose(x, (0, 2, 1)), weight)
    return add.reshape(add.transpose(y, (0, 2, 1)), (batch, frames, bins, prod(add.node.output.type.dims[3:])))

"""Pools with dilations axis by axis, as one slice for each place in the window; pools of powers by those of means."""

from __future__ import annotations

from math import inf, prod

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.op import Op
from compiler.tensor import F32, Array
from passes._decompose import MADE, Layers, decomposes

Ints = tuple[int, ...]
MOST_TAPS = 64  # places in a window along one axis, each of which becomes layers of its own


def _reached(add: Layers, x: Value, op: ops.Pool, fill: float) -> Value:
    """`x` with its spatial axes padded, or cut, to what the windows of the known output reach."""
    n, dims, out = len(op.kernel), x.type.dims, add.node.outputs[0].type.dims[2:]
    begins, ends = op.pads[:n], []
    for i in range(n):
        reach = (out[i] - 1) * op.strides[i] + (op.kernel[i] - 1) * op.dilations[i] + 1
        end = reach - dims[i + 2] - begins[i]
        ends.append(max(end, 0))
        x = add.cut(x, i + 2, 0, dims[i + 2] + min(end, 0))
    if not any((*begins, *ends)):
        return x
    return add(ops.Pad(pads=(0, 0, *begins, 0, 0, *ends), value=fill), x)


def _swept(add: Layers, x: Value, op: ops.Pool, fill: float, join: Op) -> Value:
    """What the places of each window meet, joined: along the axes one after the other."""
    x = _reached(add, x, op, fill)
    out = add.node.outputs[0].type.dims[2:]
    for axis, (k, d, s, n) in enumerate(zip(op.kernel, op.dilations, op.strides, out, strict=True), 2):
        first, *others = (add.cut(x, axis, i * d, i * d + (n - 1) * s + 1, s) for i in range(k))
        x = first
        for tap in others:
            x = add(join, x, tap)
    return x


def _is_dense(op: ops.Pool) -> bool:
    return set(op.dilations) <= {1}


def _few(op: ops.Pool) -> bool:
    return max(op.kernel) <= MOST_TAPS


def _is_grid(op: ops.Pool) -> bool:
    """Whether all windows meet elements of one grid, as far apart as the dilations."""
    return all(s % d == 0 for s, d in zip(op.strides, op.dilations, strict=True))


def _grid(add: Layers, x: Value, op: ops.Pool, fill: float) -> Value:
    """The padded elements of that grid."""
    x = _reached(add, x, op, fill)
    for axis, d in enumerate(op.dilations, 2):
        x = add.cut(x, axis, 0, x.type.dims[axis], d)
    return x


def _dense(kind: type[ops.Pool], op: ops.Pool) -> ops.Pool:
    """The pool on the grid: without pads and dilations."""
    n, steps = len(op.kernel), zip(op.strides, op.dilations, strict=True)
    return kind(kernel=op.kernel, strides=tuple(s // d for s, d in steps), pads=(0,) * (2 * n), dilations=(1,) * n)


@decomposes(ops.MaxPool)
def _max_pool(add: Layers, op: ops.MaxPool, x: Value) -> Value | None:
    """The largest of what the places of a dilated window meet."""
    if op.indices or _is_dense(op) or not x.type.dtype.is_float:
        return None
    if _is_grid(op):
        return add(_dense(ops.MaxPool, op), _grid(add, x, op, -inf))
    return _swept(add, x, op, -inf, ops.Max()) if _few(op) else None


@decomposes(ops.AveragePool)
def _average_pool(add: Layers, op: ops.AveragePool, x: Value) -> Value | None:
    """The sum over the places of a dilated window, over the number of those that count."""
    out = add.node.output.type.dims[2:]
    if _is_dense(op) or not (_few(op) or _is_grid(op)) or 8 * prod(out) > MADE:
        return None
    counts: Array = np.ones(out)
    for i, count in enumerate(op.counts(x.type.dims[2:], out)):
        counts *= count.reshape([-1 if k == i else 1 for k in range(len(out))])
    total = _total(add, _wide(add, x), op)
    y = add(ops.Mul(), total, add.const(1 / counts[None, None], total.type.dtype))
    return add.cast(y, x.type.dtype)


def _total(add: Layers, x: Value, op: ops.Pool) -> Value:
    """The sum of each window."""
    if not _is_grid(op):
        return _swept(add, x, op, 0.0, ops.Add())
    mean = add(_dense(ops.AveragePool, op), _grid(add, x, op, 0.0))
    return add(ops.Mul(), mean, float(prod(op.kernel)))


def _wide(add: Layers, x: Value) -> Value:
    return add.cast(x, F32) if x.type.dtype.bits < 32 else x


@decomposes(ops.LpPool)
def _lp_pool(add: Layers, op: ops.LpPool, x: Value) -> Value | None:
    """The root of the sum of powers; the sum is the mean over all places times their number."""
    if not _few(op) and not _is_grid(op):
        return None
    size = add(ops.Abs(), _wide(add, x))
    powers = size if op.p == 1 else add(ops.Mul(), size, size) if op.p == 2 else add(ops.Pow(), size, float(op.p))
    total = _total(add, powers, op)
    root = total if op.p == 1 else add(ops.Sqrt(), total) if op.p == 2 else add(ops.Pow(), total, 1 / op.p)
    return add.cast(root, x.type.dtype)

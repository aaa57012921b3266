"""Layers that no kernel of integers computes as one, by layers that one computes each."""

from __future__ import annotations

from math import inf, prod

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.op import Op
from compiler.tensor import BOOL, F32, Array
from passes._decompose import Layers
from passes._finite import is_finite
from passes._sign import is_positive

LEAST_DIVISOR = 1e-30  # whose reciprocal float32 holds
HIDDEN = -1000.0  # terms of a mask below it hide a key: the exponential is 0 in float32


def attention(add: Layers, op: ops.Attention, q: Value, k: Value, v: Value, mask: Value | None = None) -> Value | None:
    """softmax(q k^T * scale + mask) v by products of matrices; what a constant mask hides is chosen away. None with a
    mask that may hide all keys from a query, or with a softcap."""
    batch, heads, queries, depth = q.type.dims
    shared, keys = k.type.dims[1:3]
    known = mask is None or mask.data is not None
    if op.softcap > 0 or not (known or (mask is not None and mask.type.dtype is not BOOL and is_finite(mask))):
        return None
    term, visible = _constant_mask(None if mask is None else mask.data, op.causal, (queries, keys))
    if visible is not None and not visible.any(-1).all():
        return None
    rows = heads // shared * queries
    grouped = add.reshape(q, (batch, shared, rows, depth))
    scores = add(ops.MatMul(), grouped, add.transpose(k, (0, 1, 3, 2)))
    scores = add.reshape(add(ops.Mul(), scores, op.scale), (batch, heads, queries, keys))
    if not known or term is not None:
        scores = add(ops.Add(), scores, mask if term is None else add.const(term, q.type.dtype))
    if visible is not None:
        scores = add(ops.Where(), add.const(visible, BOOL), scores, -inf)
    weights = add.reshape(add(ops.Softmax(axis=3), scores), (batch, shared, rows, keys))
    return add.reshape(add(ops.MatMul(), weights, v), (batch, heads, queries, v.type.dims[3]))


def _constant_mask(mask: Array | None, causal: bool, area: tuple[int, int]) -> tuple[Array | None, Array | None]:
    """What a constant mask adds to the scores of visible keys, and which keys are visible, [...,queries,keys]; None for
    nothing and for all."""
    visible = np.tri(*area, dtype=np.bool_) if causal else np.ones((1, 1), np.bool_)
    term = None
    if mask is not None:
        shown = mask if mask.dtype.kind == "b" else mask > HIDDEN
        visible = visible & shown
        if mask.dtype.kind != "b" and bool(mask[shown].any()):
            term = np.where(shown, mask, 0)
    return term, None if visible.all() else visible


def layer_norm(add: Layers, op: ops.LayerNorm, x: Value, scale: Value, bias: Value | None = None) -> Value:
    """By the one that does not centre."""
    centred = add(ops.Sub(), x, add(ops.ReduceMean(axes=tuple(range(op.axis, x.type.rank)), keepdims=True), x))
    y = rms_norm(add, op, centred, scale)
    return y if bias is None else add(ops.Add(), y, bias)


def rms_norm(add: Layers, op: ops.RmsNorm | ops.LayerNorm, x: Value, scale: Value) -> Value:
    """The sum of squares of a row is its product with itself, which rounds once, and not each square; what the mean
    divides by goes into the scale."""
    dims, count = x.type.dims, prod(x.type.dims[op.axis :])
    rows = prod(dims[: op.axis])
    squares = add(ops.MatMul(), add.reshape(x, (rows, 1, count)), add.reshape(x, (rows, count, 1)))
    total = add.reshape(squares, (*dims[: op.axis], *[1] * (len(dims) - op.axis)))
    over = add(ops.Pow(), add(ops.Add(), total, count * op.eps), -0.5)
    factor = np.sqrt(count)
    if scale.data is not None and bool((scale.data != 1).any()):
        wide = add.const(scale.data.astype(np.float64) * factor, x.type.dtype)
        return add(ops.Mul(), add(ops.Mul(), x, over), wide)
    y = add(ops.Mul(), x, add(ops.Mul(), over, float(factor)))
    return y if scale.data is not None else add(ops.Mul(), y, scale)


def local_response_norm(add: Layers, op: ops.LocalResponseNorm, x: Value) -> Value | None:
    """By a convolution of the squares with a band of ones, and inverse roots: t^-3/4 = r r (r^-1/2) with r = t^-1/2.
    None for other exponents than 1/2 and 3/4."""
    if op.beta not in (0.5, 0.75) or op.bias <= 0 or op.alpha < 0 or x.type.rank != 4:
        return None
    channels, before = x.type.dims[1], (op.size - 1) // 2
    offset = np.arange(channels) - np.arange(channels)[:, None]
    band = np.where((-before <= offset) & (offset < op.size - before), op.alpha / op.size, 0.0)
    weight = add.const(band.reshape(channels, channels, 1, 1), x.type.dtype)
    point = ops.Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    sums = add(point, add(ops.Mul(), x, x), weight, add.const(np.full(channels, op.bias), x.type.dtype))
    root = add(ops.Pow(), sums, -0.5)
    y = add(ops.Mul(), x, root)
    return y if op.beta == 0.5 else add(ops.Mul(), y, add(ops.Mul(), root, add(ops.Pow(), root, -0.5)))


def quotient(add: Layers, op: ops.Div, x: Value, y: Value) -> Value | None:
    """By the reciprocals of constants, the inverse root of what a root is taken of, and twice that of what is positive.
    None for other divisors."""
    if y.data is not None:
        if x.data is not None or not (np.abs(y.data) > LEAST_DIVISOR).all() or not np.isfinite(y.data).all():
            return None
        return add(ops.Mul(), x, add.const(1 / y.data.astype(np.float64), y.type.dtype))
    inverse = reciprocal(add, op, y)
    return None if inverse is None else add(ops.Mul(), x, inverse) if x.data is None or (x.data != 1).any() else inverse


def reciprocal(add: Layers, _op: Op, y: Value) -> Value | None:
    """By an inverse root, of what a root is taken of, or squared; None of what may be negative or 0."""
    if y.node is not None and isinstance(y.node.op, ops.Sqrt):
        return add(ops.Pow(), y.node.inputs[0], -0.5)
    if not is_positive(y):
        return None
    root = add(ops.Pow(), y, -0.5)
    return add(ops.Mul(), root, root)


def choice(add: Layers, _op: ops.Cast, x: Value) -> Value | None:
    """Truth values as numbers by a choice of 1 and 0; None for other operands."""
    return add(ops.Where(), x, add.const(1.0, F32), add.const(0.0, F32)) if x.type.dtype is BOOL else None

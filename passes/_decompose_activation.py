"""Activation and elementary functions by simpler ones."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.op import Op
from passes._decompose import Layers, decomposes

LARGE, LARGE_16 = 1e9, 128.0  # whose square is the same with 1 more, in 32 or more bits and in 16


@decomposes(ops.Mish)
def _mish(add: Layers, op: Op, x: Value) -> Value:
    return add(ops.Mul(), x, add(ops.Tanh(), add(ops.Softplus(), x)))


@decomposes(ops.Silu)
def _silu(add: Layers, op: ops.Silu, x: Value) -> Value:
    scaled = x if op.alpha == 1 else add(ops.Mul(), x, op.alpha)
    return add(ops.Mul(), x, add(ops.Sigmoid(), scaled))


@decomposes(ops.Elu)
def _elu(add: Layers, op: ops.Elu, x: Value) -> Value | None:
    """By the one whose alpha is 1."""
    if op.alpha == 1:
        return None
    below = add(ops.Elu(), add(ops.Min(), x, 0.0))
    return add(ops.Add(), add(ops.Relu(), x), add(ops.Mul(), below, op.alpha))


@decomposes(ops.Selu)
def _selu(add: Layers, op: ops.Selu, x: Value) -> Value:
    return add(ops.Mul(), add(ops.Elu(alpha=op.alpha), x), op.gamma)


@decomposes(ops.Celu)
def _celu(add: Layers, op: ops.Celu, x: Value) -> Value | None:
    if op.alpha == 0:
        return None
    return add(ops.Mul(), add(ops.Elu(), add(ops.Mul(), x, 1 / op.alpha)), op.alpha)


@decomposes(ops.Shrink)
def _shrink(add: Layers, op: ops.Shrink, x: Value) -> Value | None:
    """x drawn towards 0 by the bias outside of [-lambd, lambd], 0 inside."""
    if not x.type.dtype.is_float:
        return None
    above, below = add(ops.Greater(), x, op.lambd), add(ops.Less(), x, -op.lambd)
    inner = add(ops.Where(), above, add(ops.Sub(), x, op.bias), 0.0)
    return add(ops.Where(), below, add(ops.Add(), x, op.bias), inner)


@decomposes(ops.ThresholdedRelu)
def _thresholded_relu(add: Layers, op: ops.ThresholdedRelu, x: Value) -> Value:
    return add(ops.Where(), add(ops.Greater(), x, op.alpha), x, 0.0)


@decomposes(ops.PRelu)
def _prelu(add: Layers, op: Op, x: Value, slope: Value) -> Value:
    """max(x, 0) + slope min(x, 0); a choice where 0 times the slope may not be 0."""
    if slope.data is not None and (not x.type.dtype.is_float or np.isfinite(slope.data.astype(np.float32)).all()):
        return add(ops.Add(), add(ops.Max(), x, 0), add(ops.Mul(), add(ops.Min(), x, 0), slope))
    return add(ops.Where(), add(ops.Less(), x, 0), add(ops.Mul(), x, slope), x)


@decomposes(ops.Asinh)
def _asinh(add: Layers, op: Op, x: Value) -> Value:
    """log(|x| + sqrt(x^2 + 1)) with the sign of x; the root of a large number is the number, whose square overflows."""
    size = add(ops.Abs(), x)
    small = add(ops.Clip(low=0.0, high=LARGE_16 if x.type.dtype.bits < 32 else LARGE), size)
    root = add(ops.Sqrt(), add(ops.Add(), add(ops.Mul(), small, small), 1.0))
    total = add(ops.Add(), size, add(ops.Max(), root, size))
    return add(ops.Mul(), add(ops.Log(), total), add(ops.Sign(), x))


@decomposes(ops.Acosh)
def _acosh(add: Layers, op: Op, x: Value) -> Value:
    """log(x + sqrt(x - 1) sqrt(x + 1)); the product of both would overflow, and hide that there is none below 1."""
    roots = (add(ops.Sqrt(), add(ops.Sub(), x, 1.0)), add(ops.Sqrt(), add(ops.Add(), x, 1.0)))
    return add(ops.Log(), add(ops.Add(), x, add(ops.Mul(), *roots)))

"""Compute means of large windows by means along axes or by depthwise convolutions, where windows are limited."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler.graph import Value
from compiler.ops.conv import Conv
from compiler.ops.elementwise import Mul
from compiler.ops.pool import AveragePool, GlobalAveragePool
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers, along
from passes._substitute import instead_of
from passes._windows import reached


class SubstituteAveragePool(RewritePass):
    """Average pools of windows of more than `most` elements, or more than `longest` along an axis, become the mean of
    the image, where they are all of it, or a depthwise convolution, where every window counts as many elements; those
    that are too long, in any case, then with a factor for each window."""

    adds_work = True
    most: int = 256
    longest: int = 1 << 30

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(AveragePool, self._parts),)

    def _parts(self, add: Layers, op: AveragePool, x: Value) -> Value | None:
        size, channels = prod(op.kernel), x.type.dims[1]
        is_long, is_even = max(op.kernel) > self.longest, not any(op.pads) or op.count_include_pad
        if (size <= self.most and not is_long) or ((op.ceil_mode or not is_even) and not is_long):
            return None
        if op.kernel == x.type.dims[2:] and not any(op.pads):
            return add(GlobalAveragePool(), x)
        kernel = add.const(np.full((channels, 1, *op.kernel), 1 / size), x.type.dtype)
        mean = Conv(strides=op.strides, pads=op.pads, dilations=op.dilations, groups=channels)
        return _uneven(add, op, mean, x, kernel) if op.ceil_mode or not is_even else add(mean, x, kernel)


def _uneven(add: Layers, op: AveragePool, mean: Conv, x: Value, kernel: Value) -> Value:
    """Windows over zeros around the image, times how many elements there are for each that counts."""
    spatial, out = x.type.dims[2:], add.node.output.type.dims[2:]
    shares = np.ones((1, 1, *out))
    for i, counts in enumerate(op.counts(spatial, out)):
        reach = (out[i] - 1) * op.strides[i] + (op.kernel[i] - 1) * op.dilations[i] + 1
        x = reached(add, x, 2 + i, -op.pads[i], reach)
        shares = shares * along(op.kernel[i] / counts, 2 + i, x.type.rank)
    y = add(mean.with_(pads=(0,) * len(op.pads)), x, kernel)
    return add(Mul(), y, add.const(shares, x.type.dtype))

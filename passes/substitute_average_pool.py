"""Compute means of large windows by means along axes or by depthwise convolutions, where windows are limited."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler.graph import Value
from compiler.ops.conv import Conv
from compiler.ops.pool import AveragePool, GlobalAveragePool
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


class SubstituteAveragePool(RewritePass):
    """Average pools of windows of more than `most` elements become the mean of the image, where they are all of it, or
    a depthwise convolution, where every window counts as many elements."""

    adds_work = True
    most: int = 256

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(AveragePool, self._parts),)

    def _parts(self, add: Layers, op: AveragePool, x: Value) -> Value | None:
        size, channels = prod(op.kernel), x.type.dims[1]
        if size <= self.most or op.ceil_mode:
            return None
        if op.kernel == x.type.dims[2:] and not any(op.pads):
            return add(GlobalAveragePool(), x)
        if any(op.pads) and not op.count_include_pad:
            return None
        kernel = np.full((channels, 1, *op.kernel), 1 / size)
        mean = Conv(strides=op.strides, pads=op.pads, dilations=op.dilations, groups=channels)
        return add(mean, x, add.const(kernel, x.type.dtype))

"""Compute several neighbouring pixels at once, as channels of one, where a kernel of few weights is too wide.

Blocks of B pixels are read as channels. A block of B / stride results sees as many blocks as reach over its kernels, of
which each is the original one, moved by a stride from the next."""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.ops.conv import Conv
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of
from passes._windows import interleaved, reached, spread


class SubstituteWideKernel(RewritePass):
    """Kernels wider than `width` whose copies have at most `weights` elements become narrow ones of many channels, but
    for those that `strips` strips cover, which need no reordering of pixels (see substitute-large-kernel)."""

    adds_work = True  # copies of a kernel have zeros around them
    width: int = 15
    weights: int = 1 << 16
    strips: int = 2

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Conv, self._parts),)

    def _parts(self, add: Layers, op: Conv, x: Value, w: Value, b: Value | None = None) -> Value | None:
        if w.data is None or w.type.rank != 4 or (b is not None and b.data is None):
            return None
        (m, c, high, wide), stride, out = w.type.dims, op.strides[1], add.node.output.type.dims[3]
        if -(-wide // stride) <= self.width or op.dilations[1] > 1:  # else blocks of a stride suffice
            return None
        if stride == 1 and -(-wide // self.width) <= self.strips:
            return None
        block = next(n for n in range(stride, wide + stride, stride) if -(-(wide + n - stride) // n) <= self.width)
        count, taps = block // stride, -(-(wide + block - stride) // block)
        if m * count * c * high * taps * block > self.weights:
            return None
        copies = np.zeros((m, count, c, high, taps * block), w.data.dtype)
        for i in range(count):
            copies[:, i, ..., i * stride : i * stride + wide] = w.data
        apart = copies.reshape(m * count, c, high, taps, block).transpose(0, 1, 4, 2, 3)
        kernel = add.like(np.ascontiguousarray(apart).reshape(m * count, c * block, high, taps), w)
        blocks = -(-out // count)
        rows = interleaved(add, reached(add, x, 3, -op.pads[1], (blocks + taps - 1) * block), 3, block, 1)
        narrow = op.with_(strides=(op.strides[0], 1), pads=(op.pads[0], 0, op.pads[2], 0))
        bias = None if b is None or b.data is None else add.like(np.repeat(b.data, count), b)
        return add.cut(spread(add, add(narrow, rows, kernel, bias), 3, count), 3, 0, out)

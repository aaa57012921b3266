"""Gather blocks of pixels into channels in front of a convolution whose stride, or whose kernel beside its stride, is
too large for an accelerator."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.ops.conv import Conv
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of
from passes._windows import interleaved, reached


class SubstituteLargeStride(RewritePass):
    """Convolutions with a stride that is not among `strides`, or with a stride and a kernel of more than `width` or
    `height`, read images whose channels are blocks. A kernel that is no multiple of the blocks is extended by zeros."""

    adds_work = True
    strides: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 9, 12, 16, 24, 32)
    width: int = 15
    height: int = 15

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Conv, self._parts),)

    def _parts(self, add: Layers, op: Conv, x: Value, w: Value, b: Value | None = None) -> Value | None:
        if w.data is None or w.type.rank != 4:
            return None
        kernel, limits = w.type.dims[2:], (self.height, self.width)
        blocks = [self._block(*v) for v in zip(op.strides, kernel, op.dilations, limits, strict=True)]
        if blocks == [1, 1]:
            return None
        data, out = np.asarray(w.data), add.node.output.type.dims
        wide = [-(-k // n) * n for k, n in zip(kernel, blocks, strict=True)]
        data = np.pad(data, ((0, 0), (0, 0), *((0, v - k) for v, k in zip(wide, kernel, strict=True))))
        for i in (0, 1):
            reach = (out[2 + i] - 1) * op.strides[i] + (wide[i] - 1) * op.dilations[i] + 1
            x = reached(add, x, 2 + i, -op.pads[i], -(-reach // blocks[i]) * blocks[i])
        m, c, (high, low) = *data.shape[:2], (v // n for v, n in zip(wide, blocks, strict=True))
        apart = data.reshape(m, c, high, blocks[0], low, blocks[1])
        if op.groups == 1 and blocks[0] == blocks[1]:
            x, order = add(ops.SpaceToDepth(blocksize=blocks[0]), x), (0, 3, 5, 1, 2, 4)
        else:
            x, order = interleaved(add, interleaved(add, x, 3, blocks[1], 1), 2, blocks[0], 1), (0, 1, 5, 3, 2, 4)
        kernels = np.ascontiguousarray(apart.transpose(order)).reshape(m, -1, high, low)
        strides = tuple(s // n for s, n in zip(op.strides, blocks, strict=True))
        return add(op.with_(strides=strides, pads=(0, 0, 0, 0)), x, add.like(kernels, w), b)

    def _block(self, stride: int, kernel: int, dilation: int, most: int) -> int:
        """The least length of blocks along one axis with which stride and kernel are taken; the stride if none is."""
        if dilation > 1 or (stride in self.strides and (stride == 1 or kernel <= most)):
            return 1
        fitting = [n for n in range(2, stride) if stride % n == 0 and stride // n in self.strides]
        return next((n for n in fitting if -(-kernel // n) <= most), stride)

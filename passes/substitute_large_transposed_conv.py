"""Compute a transposed convolution of a large stride by a convolution that makes blocks of pixels as channels."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of
from passes._windows import reached, spread


class SubstituteLargeTransposedConv(RewritePass):
    """Transposed convolutions of images with a stride over `most`: pixel r of a block sees every stride-th place of the
    kernel, from r on."""

    adds_work = True  # of a kernel that is no multiple of the stride
    most: int = 15

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(ops.ConvTranspose, self._parts),)

    def _parts(self, add: Layers, op: ops.ConvTranspose, x: Value, w: Value, b: Value | None = None) -> Value | None:
        if w.data is None or w.type.rank != 4 or max(op.strides) <= self.most or max(op.dilations) > 1:
            return None
        c, m, *kernel = w.type.dims
        (high, wide), out = op.strides, add.node.output.type.dims
        taps = [-(-k // s) for k, s in zip(kernel, op.strides, strict=True)]
        grown = [(0, n * s - k) for n, s, k in zip(taps, op.strides, kernel, strict=True)]
        data = np.pad(np.asarray(w.data), ((0, 0), (0, 0), *grown))
        blocks = data.reshape(op.groups, c // op.groups, m, taps[0], high, taps[1], wide)[:, :, :, ::-1, :, ::-1]
        kernels = blocks.transpose(0, 2, 6, 4, 1, 3, 5).reshape(-1, c // op.groups, *taps)
        pads = (taps[0] - 1, taps[1] - 1) * 2
        flat = ops.Conv(strides=(1, 1), pads=pads, dilations=(1, 1), groups=op.groups)
        bias = None if b is None else add.reshape(b, (1, out[1], 1, 1))
        y = add(flat, x, add.like(np.ascontiguousarray(kernels), w))
        y = spread(add, spread(add, y, 2, high), 3, wide)
        for i in (0, 1):
            y = reached(add, y, 2 + i, op.pads[i], out[2 + i])
        return y if bias is None else add(ops.Add(), y, bias)

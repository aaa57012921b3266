"""Compute convolutions of volumes as sums of convolutions of their slices, for accelerators without a third axis."""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.ops.conv import Conv
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of
from passes._windows import merged, reached, summed


def parts(add: Layers, op: Conv, x: Value, w: Value, b: Value | None = None) -> Value | None:
    """For each place in the depth of the kernel, a convolution of the slices that it meets, as samples of a batch."""
    if w.data is None or x.type.rank != 5:
        return None
    n, m, deep, high, wide = add.node.output.type.dims
    taps, stride, dilation = w.type.dims[2], op.strides[0], op.dilations[0]
    slices = add.transpose(x, (0, 2, 1, 3, 4))
    slices = reached(add, slices, 1, -op.pads[0], (deep - 1) * stride + (taps - 1) * dilation + 1)
    pads = (op.pads[1], op.pads[2], op.pads[4], op.pads[5])
    flat = op.with_(strides=op.strides[1:], pads=pads, dilations=op.dilations[1:])
    seen = []
    for t in range(taps):
        met = add.cut(slices, 1, t * dilation, t * dilation + (deep - 1) * stride + 1, stride)
        kernel = add.like(np.ascontiguousarray(w.data[:, :, t]), w)
        seen.append(add(flat, add.reshape(met, merged(met, 0, 2)), kernel, None if t else b))
    return add.transpose(add.reshape(summed(add, seen), (n, deep, m, high, wide)), (0, 2, 1, 3, 4))


class SubstituteConv3d(RewritePass):
    """Convolutions of [N,C,D,H,W] become those of [N*D,C,H,W]."""

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Conv, parts),)

"""Move channels to space by a transposed convolution, for accelerators that have one and no kernel for the move.

Its kernel is 1 where a channel goes and 0 elsewhere: in integers too every element is copied."""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.ops.conv import ConvTranspose
from compiler.ops.shape import DepthToSpace
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: DepthToSpace, x: Value) -> Value:
    """The kernel is where each channel of an image of one element goes."""
    channels = x.type.dims[1]
    kernel = op.evaluate(np.eye(channels, dtype=x.type.dtype.numpy)[:, :, None, None])
    b = op.blocksize
    move = ConvTranspose(strides=(b, b), pads=(0,) * 4, dilations=(1, 1), groups=1, output_padding=(0, 0))
    return add(move, x, add.const(kernel, x.type.dtype))


class SubstituteDepthToSpace(RewritePass):
    """Blocks of channels become a transposed convolution with a kernel of ones and zeros."""

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(DepthToSpace, parts),)

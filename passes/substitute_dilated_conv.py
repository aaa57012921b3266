"""Write zeros between the elements of kernels whose dilations differ, for accelerators that take one dilation only."""

from __future__ import annotations

from math import gcd

import numpy as np

from compiler.graph import Value
from compiler.ops.conv import Conv
from compiler.ops.window import Index
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: Conv, x: Value, w: Value, b: Value | None = None) -> Value | None:
    """A convolution whose dilation is what all have in common."""
    common = gcd(*op.dilations)
    if w.data is None or len(set(op.dilations)) == 1:
        return None
    steps = [d // common for d in op.dilations]
    kernel = [(k - 1) * s + 1 for k, s in zip(w.type.dims[2:], steps, strict=True)]
    wide = np.zeros((*w.type.dims[:2], *kernel), w.type.dtype.numpy)
    inside: Index = (..., *(slice(None, None, s) for s in steps))
    wide[inside] = w.data
    return add(op.with_(dilations=(common,) * len(steps)), x, add.const(wide, w.type.dtype), b)


class SubstituteDilatedConv(RewritePass):
    """Convolutions whose dilations differ between axes get one dilation and a kernel with zeros."""

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Conv, parts),)

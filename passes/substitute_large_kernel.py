"""Compute a convolution of a large kernel as the sum of convolutions of strips of it, where kernels are limited."""

from __future__ import annotations

from itertools import product

import numpy as np

from compiler.graph import Value
from compiler.ops.conv import Conv
from compiler.pass_base import RewritePass
from compiler.rewrite import Result, Rule, Skip
from passes._decompose import Layers
from passes._substitute import instead_of
from passes._windows import strips, summed

MOST_STRIPS = 64


class SubstituteLargeKernel(RewritePass):
    """Kernels of two axes wider than `width`, higher than `height` with a width of 1, or larger than `square` become
    strips, each of which slides over what it sees of the image."""

    width: int = 15
    height: int = 31
    square: int = 15

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Conv, self._parts),)

    def _parts(self, add: Layers, op: Conv, x: Value, w: Value, b: Value | None = None) -> Result:
        if w.data is None or w.type.rank != 4:
            return None
        high, wide = w.type.dims[2:]
        columns = strips(wide, min(self.width, self.square) if high > 1 else self.width)
        rows = strips(high, self.square if wide > 1 else self.height)
        if len(rows) == len(columns) == 1:
            return None
        if len(rows) * len(columns) > MOST_STRIPS:
            return Skip(f"a kernel of {high} x {wide} would become more than {MOST_STRIPS} convolutions")
        parts: list[Value] = []
        for ends in product(rows, columns):
            strip = np.ascontiguousarray(w.data[:, :, slice(*ends[0]), slice(*ends[1])])
            begins, cut = [], x
            for i, (first, last) in enumerate(ends):
                begin = first * op.dilations[i] - op.pads[i]
                span = (add.node.output.type.dims[2 + i] - 1) * op.strides[i] + (last - first - 1) * op.dilations[i] + 1
                begins.append((begin, begin + span, cut.type.dims[2 + i]))
                if begin + span <= 0 or begin >= cut.type.dims[2 + i]:
                    break
                cut = add.cut(cut, 2 + i, max(begin, 0), min(begin + span, cut.type.dims[2 + i]))
            else:
                pads = (*(max(-s, 0) for s, _, _ in begins), *(max(e - n, 0) for _, e, n in begins))
                bias = b if not parts else None
                parts.append(add(op.with_(pads=pads), cut, add.like(strip, w), bias))
        return summed(add, parts)

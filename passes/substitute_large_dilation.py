"""Take images apart into every n-th pixel where a dilation is too large for an accelerator, or no product of what its
dilations are made of, and convolve the parts as samples of a batch."""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.conv import Conv
from compiler.pass_base import RewritePass
from compiler.rewrite import Result, Rule, Skip
from passes._decompose import Layers
from passes._substitute import instead_of
from passes._windows import deinterleaved, interleaved, only_factors, reached


class SubstituteLargeDilation(RewritePass):
    """Convolutions whose dilations are over `most`, or have other factors than `factors`."""

    adds_work = True  # pixels are added until the parts are of equal length
    factors: tuple[int, ...] = (2, 3)
    most: int = 8

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Conv, self._parts),)

    def _parts(self, add: Layers, op: Conv, x: Value, w: Value, b: Value | None = None) -> Result:
        kernel, out = w.type.dims[2:], add.node.output.type.dims
        used = [d if k > 1 else 1 for d, k in zip(op.dilations, kernel, strict=True)]
        left = [only_factors(d, self.factors, self.most) for d in used]
        if w.type.rank != 4 or left == used:
            return None
        parts = [d // n for d, n in zip(used, left, strict=True)]
        if any(n > 1 and s > 1 for n, s in zip(parts, op.strides, strict=True)):
            return Skip(f"a dilation of {max(used)} with a stride")
        pads = list(op.pads)
        for i, n in enumerate(parts):
            if n > 1:
                length = -(-out[2 + i] // n) * n + (kernel[i] - 1) * used[i]
                x = interleaved(add, reached(add, x, 2 + i, -op.pads[i], length), 2 + i, n, 0)
                pads[i] = pads[2 + i] = 0
        y = add(op.with_(dilations=tuple(left), pads=tuple(pads)), x, w, b)
        for i in (1, 0):
            y = add.cut(deinterleaved(add, y, 2 + i, parts[i]), 2 + i, 0, out[2 + i])
        return y

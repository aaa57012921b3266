"""Repeat pixels by a transposed convolution of each channel, for accelerators that only emulate resampling."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


class SubstituteResize(RewritePass):
    """Images enlarged by whole factors of at most `most`, each pixel becoming a block."""

    error_class = ErrorClass.EXACT
    adds_work = True
    most: int = 8

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(ops.Resize, self._parts),)

    def _parts(self, add: Layers, op: ops.Resize, x: Value) -> Value | None:
        dims = x.type.dims
        if op.mode != "nearest" or len(dims) != 4 or op.coordinates == "tf_crop_and_resize":
            return None
        factors = [size // d for size, d in zip(op.sizes, dims, strict=True)]
        if factors[:2] != [1, 1] or max(factors) > self.most or max(factors) == 1:
            return None
        for axis in op.resized_axes(dims):
            places = op.taps(axis, dims[axis]).places[:, 0]
            if not np.array_equal(places, np.arange(dims[axis] * factors[axis]) // factors[axis]):
                return None
        c, steps = dims[1], (factors[2], factors[3])
        window = {"strides": steps, "pads": (0,) * 4, "dilations": (1, 1), "output_padding": (0, 0)}
        kernel = add.const(np.ones((c, 1, *steps)), x.type.dtype)
        return add(ops.ConvTranspose(groups=c, **window), x, kernel)

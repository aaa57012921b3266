"""Compute convolutions and pools of one axis on images of height 1, for accelerators whose windows have two axes."""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.ops.conv import Conv, Convolution, ConvTranspose
from compiler.ops.pool import AveragePool, MaxPool, Pool
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def image(add: Layers, x: Value) -> Value:
    """x [N,C,L] as [N,C,1,L]."""
    n, c, length = x.type.dims
    return add.reshape(x, (n, c, 1, length))


def convolved(add: Layers, op: Convolution, x: Value, w: Value, b: Value | None = None) -> Value | None:
    """A kernel [M,C,1,K] over the image."""
    if x.type.rank != 3 or w.data is None:
        return None
    more = {"output_padding": (0, *op.output_padding)} if isinstance(op, ConvTranspose) else {}
    flat = op.with_(strides=(1, *op.strides), dilations=(1, *op.dilations), pads=(0, op.pads[0], 0, op.pads[1]), **more)
    kernel = add.like(np.expand_dims(w.data, 2), w)
    return add.reshape(add(flat, image(add, x), kernel, b), add.node.output.type.dims)


def pooled(add: Layers, op: Pool, x: Value) -> Value | None:
    """A window of height 1."""
    if x.type.rank != 3 or getattr(op, "indices", False):
        return None
    flat = op.with_(
        kernel=(1, *op.kernel),
        strides=(1, *op.strides),
        dilations=(1, *op.dilations),
        pads=(0, op.pads[0], 0, op.pads[1]),
    )
    return add.reshape(add(flat, image(add, x)), add.node.outputs[0].type.dims)


class SubstituteConv1d(RewritePass):
    """Convolutions and pools of [N,C,L] become those of [N,C,1,L]."""

    def rules(self) -> tuple[Rule, ...]:
        pools = (instead_of(op, pooled) for op in (MaxPool, AveragePool))
        return (*(instead_of(op, convolved) for op in (Conv, ConvTranspose)), *pools)

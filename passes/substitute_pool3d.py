"""Pool volumes within their slices first, and then across them, for accelerators whose windows have two axes."""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.pool import AveragePool, MaxPool, Pool
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: Pool, x: Value) -> Value | None:
    """A pool of [N,C*D,H,W], then one of [N,C,D,H*W]. The mean of a window is that of the means of its slices, for
    each has as many elements."""
    if x.type.rank != 5 or getattr(op, "indices", False):
        return None
    n, c, depth = x.type.dims[:3]
    _, _, deep, high, wide = add.node.outputs[0].type.dims
    inside = op.with_(
        kernel=op.kernel[1:],
        strides=op.strides[1:],
        dilations=op.dilations[1:],
        pads=(*op.pads[1:3], *op.pads[4:]),
    )
    across = op.with_(
        kernel=(op.kernel[0], 1),
        strides=(op.strides[0], 1),
        dilations=(op.dilations[0], 1),
        pads=(op.pads[0], 0, op.pads[3], 0),
    )
    flat = add(inside, add.reshape(x, (n, c * depth, *x.type.dims[3:])))
    pooled = add(across, add.reshape(flat, (n, c, depth, high * wide)))
    return add.reshape(pooled, (n, c, deep, high, wide))


class SubstitutePool3d(RewritePass):
    """Max and average pools of volumes become two of images."""

    adds_work = True  # where windows overlap within slices that few windows across them share

    def rules(self) -> tuple[Rule, ...]:
        return tuple(instead_of(op, parts) for op in (MaxPool, AveragePool))

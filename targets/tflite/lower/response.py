"""Local response normalisation."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.ops.layout import channels_last
from compiler.target import op_need
from targets.tflite.lower.conv import POINT, convolved
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import FLOAT, lowers
from targets.tflite.model import Tensor

BAND_CHANNELS = 512  # up to which a product with a band matrix is faster than a power per element


@lowers(ops.LocalResponseNorm, needs=[FLOAT, op_need("a size of at least 1", lambda op: op.size >= 1)])
def _local_response_norm(p: Lowering, node: Node, op: ops.LocalResponseNorm) -> None:
    """x * s^-beta for s = bias + alpha / size * (the sum of squares over neighbouring channels).

    The sum is a 1x1 convolution with a band matrix, and the usual powers are roots: both run in XNNPACK, which takes
    neither the builtin LOCAL_RESPONSE_NORMALIZATION nor POW. Else the builtin, whose window is symmetric, or a sum
    channel by channel.
    """
    (v,) = node.inputs
    assert v is not None
    order = channels_last(v.type.rank)
    x = p.get(v, order)
    before = (op.size - 1) // 2
    rooted = op.beta in (0.5, 0.75) and op.bias > 0 and op.alpha >= 0
    if rooted and len(x.shape) == 4 and x.shape[3] <= BAND_CHANNELS:
        y = p.binary("MUL", x, _inverse_power(p, _band_sum(p, p.unary("SQUARE", x), op), op.beta))
    elif op.size % 2 and len(x.shape) == 4:
        options = {"Radius": before, "Bias": op.bias, "Alpha": op.alpha / op.size, "Beta": op.beta}
        y = p.unary("LOCAL_RESPONSE_NORMALIZATION", x, **options)
    else:
        scale = p.plus(p.times(_shifted_sum(p, p.unary("SQUARE", x), op), op.alpha / op.size), op.bias)
        y = p.binary("MUL", x, p.binary("POW", scale, p.scalar(-op.beta)))
    p.finish(node, y, order)


def _band_sum(p: Lowering, x: Tensor, op: ops.LocalResponseNorm) -> Tensor:
    """bias + alpha / size * (the sum of x [N,H,W,C] over the window of each channel)."""
    channels, before = x.shape[3], (op.size - 1) // 2
    offset = np.arange(channels) - np.arange(channels)[:, None]
    band = np.where((-before <= offset) & (offset < op.size - before), op.alpha / op.size, 0.0)
    weight = p.model.constant(band.reshape(channels, 1, 1, channels), "band", None, "FLOAT32")  # too fine for 16 bits
    return convolved(p, x, weight, p.const(np.full(channels, op.bias), "FLOAT32"), POINT, depthwise=False)


def _inverse_power(p: Lowering, x: Tensor, beta: float) -> Tensor:
    """x^-beta for a beta of 1/2 or 3/4."""
    root = p.unary("RSQRT", x)
    return root if beta == 0.5 else p.binary("MUL", root, p.unary("SQRT", root))


def _shifted_sum(p: Lowering, x: Tensor, op: ops.LocalResponseNorm) -> Tensor:
    """The sum of x [N,*S,C] over the window of each channel."""
    before, zeros, channels = (op.size - 1) // 2, [0] * (len(x.shape) - 1), x.shape[-1]
    wide = p.pad(x, (*zeros, before), (*zeros, op.size - 1 - before))
    total = p.part(wide, -1, 0, channels)
    for i in range(1, op.size):
        total = p.binary("ADD", total, p.part(wide, -1, i, i + channels))
    return total

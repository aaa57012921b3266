"""Depthwise convolutions of halves."""

from __future__ import annotations

import numpy as np

from codegen.neon.conv import Geometry
from codegen.neon.depthwise_half import LANES, Fp16Depthwise, HalfDepthwise
from codegen.program import Pointer, Split
from compiler.graph import Node
from compiler.tensor import Array
from targets.neon.lower.matmul import among
from targets.neon.program import NeonProgram

MOST = 25  # taps that are written out


def is_strip(shape: Geometry) -> bool:
    """Whether the kernel does it."""
    whole = shape.groups == shape.channels == shape.filters
    return whole and shape.channels >= LANES and shape.kernel[0] * shape.kernel[1] <= MOST


def depthwise_halves(p: NeonProgram, node: Node, x: Pointer, shape: Geometry, w: Array, bias: Array) -> None:
    """A layer whose image has its borders, with filters [channels, 1, *K]."""
    tail = p.tail(node)
    name = node.inputs[1].name if node.inputs[1] is not None else "w"
    weights = p.constant(packed(w.reshape(shape.channels, -1), bias), name or "w")
    others = [p.at(v) for v in tail.others]
    y = p.result(tail.value)
    numbers = (shape.images, shape.height, shape.width, shape.channels, *shape.out, 0, shape.out[0])
    split = Split(shape.out[0], begin="begin", end="end")
    title = f"depthwise {'x'.join(map(str, shape.kernel))} convolution, {shape.channels} channels"
    kernels = [
        kind(kernel=shape.kernel, strides=shape.strides, dilations=shape.dilations, tail=tail.expression)
        for kind in (HalfDepthwise, Fp16Depthwise)
    ]
    kernel = among(p, node, kernels)
    p.call(kernel, x, weights, *others, y, *numbers, node=node, title=title, split=split)


def packed(w: Array, bias: Array) -> Array:
    """[channels, taps] and [channels] as the kernel reads them."""
    rows = np.concatenate([bias.reshape(1, -1), w.T]).astype(np.float16)
    channels = rows.shape[1]
    firsts = [min(c, channels - LANES) for c in range(0, channels, LANES)]
    return np.concatenate([rows[:, c : c + LANES].reshape(-1) for c in firsts])

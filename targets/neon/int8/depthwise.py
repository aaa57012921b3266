"""Depthwise convolutions: 16 channels at a time, or one result after the other."""

from __future__ import annotations

import numpy as np

from codegen.neon.int8_depthwise import LANES, Depthwise, DepthwiseForm, fits
from codegen.neon.int8_ending import Ending
from codegen.program import Split
from compiler.tensor import Array
from targets.neon.int8.border import bordered
from targets.neon.int8.linear_plain import biases, channel_factors, plain_depthwise
from targets.neon.int8.panels import channel_product
from targets.neon.int8.program import IntegerProgram
from targets.neon.int8.table import lowers
from targets.tflite.integer.fixed import Factor
from targets.tflite.integer.kernel import Node
from targets.tflite.integer.windows import Window

MOST_ROWS = 7  # registers for pointers to rows
WITHIN_16_BITS = (2**15 - 1) // 128  # the sum of absolute weights that any bytes may be multiplied by


@lowers("DEPTHWISE_CONV_2D")
def _depthwise(p: IntegerProgram, node: Node) -> None:
    x, w, y = node.tensor(0), node.tensor(1), node.result()
    if x.dtype != "INT8" and w.shape[3] == x.shape[3]:
        channel_product(p, node)
        return
    if w.shape[3] != x.shape[3] or x.shape[3] < LANES or w.shape[1] > MOST_ROWS:
        plain_depthwise(p, node)
        return
    window = Window.of(node, w.shape[1:3])
    source, (height, width) = bordered(p, node, window)
    taps = node.value(1).reshape(-1, w.shape[3])
    by = channel_factors(node, w.shape[3])
    least, most = node.limits()
    ending = Ending.of(by.shift, least, most)
    pixels = 2 if y.shape[2] % 2 == 0 and fits(ending, len(taps), 2) else 1
    (down, right), (tall, wide) = window.strides, window.dilations
    kernel = Depthwise(
        size=window.size, stride=right, dilation=wide, sums=sums(taps), pixels=pixels, ending=ending,
        images=x.shape[0], height=height, width=width, channels=x.shape[3], out=(y.shape[1], y.shape[2]), down=down,
        tall=tall, is_shared=p.is_shared,
    )  # fmt: skip
    numbers = (node.result_zero_point(), least, most)
    bias = biases(node, taps.sum(axis=0, dtype=np.int64))
    weights = p.constant(packed(kernel, taps, bias, by, numbers), w.name or "w")
    title = f"depthwise {w.shape[1]}x{w.shape[2]} filters, {x.shape[3]} channels, {y.shape[1]}x{y.shape[2]} pixels"
    lines = [0, y.shape[1]] if p.is_shared else []
    shared = Split(y.shape[1], begin="begin", end="end") if p.is_shared else None
    p.call(node, kernel, source, weights, p.result(y), *lines, title=title, split=shared)


def sums(taps: Array) -> tuple[int, ...]:
    """How many successive taps are added up in 16 bits, given the weights [taps, channels]: always the same number, as
    many as fit in all channels."""
    sizes = np.abs(taps.astype(np.int64))
    count = len(taps)
    for most in range(count, 1, -1):
        parts = [sizes[first : first + most] for first in range(0, count, most)]
        if all(part.sum(axis=0).max() <= WITHIN_16_BITS for part in parts):
            return tuple(map(len, parts))
    return (1,) * count


def packed(kernel: DepthwiseForm, taps: Array, bias: Array, by: Factor, numbers: tuple[int, int, int]) -> Array:
    """A panel for each 16 channels: limits, factors, biases, weights."""
    zero_point, least, most = numbers
    limits = [np.full(8, zero_point, np.int16), np.full(16, least, np.int8), np.full(16, most, np.int8)]
    channels = taps.shape[1]
    shifts = [np.minimum(by.shift, 0), *([np.maximum(by.shift, 0)] if kernel.ending.has_left else [])]
    tables = [t.astype(np.int32) for t in (by.mantissa, *shifts, bias)]
    parts = []
    for block in range(0, channels, LANES):
        first = min(block, channels - LANES)
        own = slice(first, first + LANES)
        parts += [*limits, *(t[own] for t in tables), taps[:, own]]
    return np.concatenate([np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in parts])

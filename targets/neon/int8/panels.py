"""Products of 16-bit integers times bytes, and of floats: by panels of columns."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from codegen.neon.int8_panel import PANEL, ROWS, ChannelProduct, PanelProduct
from codegen.program import Pointer, Split
from compiler.tensor import Array
from targets.neon.int8.border import bordered
from targets.neon.int8.program import IntegerProgram
from targets.neon.int8.walk import Walk
from targets.tflite.integer.fixed import Factor, factor
from targets.tflite.integer.kernel import BOUNDS, Node
from targets.tflite.integer.linear import BIAS_OF_32_BITS
from targets.tflite.integer.windows import Window
from targets.tflite.reader import STORED

WITHIN_32_BITS = 2**16 - 1  # the sum of absolute weights that any 16-bit integers may be multiplied by
FRACTION = 15  # bits of short factors
UNITY = 0x7FFF  # the greatest one
MOST_LINES = 64  # of a line that threads share


class Numbers(NamedTuple):
    """Of a product: weights [elements of a row, columns], what is added to sums and how they become results.

    ending   as of PanelProduct
    tables   for each column, but for floats: factors, and shifts if there are any
    limits   the zero point of integers, the least and the greatest result
    """

    ending: str
    weights: Array
    biases: Array
    tables: tuple[Array, ...]
    limits: tuple[float, ...]

    @property
    def is_long(self) -> bool:
        """Whether sums without biases may exceed 32 bits."""
        sizes = np.abs(self.weights.astype(np.int64)).sum(axis=0)
        return self.ending != "float" and int(sizes.max(initial=0)) > WITHIN_32_BITS


def numbers_of(node: Node, weights: Array, part: slice, bias: int = 2, source: int = 0) -> Numbers:
    """Of a product whose weights are operand 1, for some of its columns. NoReferenceError for types that no kernel
    multiplies."""
    if node.tensor(1).dtype == "FLOAT32":
        added = node.value(bias)[part] if node.has(bias) else np.zeros(weights.shape[1])
        return Numbers("float", weights, added.astype(np.float32), (), float_limits(node))
    _expect_sums(node, bias)
    zero = node.zero_point(1) if len(node.scales_of(node.tensor(1))) == 1 else 0
    wide = weights.astype(np.int64) - zero
    biases = -node.zero_point(source) * wide.sum(axis=0)
    if node.has(bias):
        biases = biases + node.value(bias).astype(np.int64)[part]
    count = weights.shape[1]
    scales = node.scales_of(node.tensor(1)).astype(np.float64)
    real = np.float64(node.scale(source)) * scales / np.float64(node.result_scale())
    real = real[part] if len(real) > 1 else np.repeat(real, count)
    limits = (node.result_zero_point(), *node.limits())
    if node.operator.code == "FULLY_CONNECTED":
        return Numbers("real", wide, biases, (real,), limits)
    by = factor(real)
    if node.option("QuantizedBiasType") == BIAS_OF_32_BITS:
        return Numbers("fixed", wide, biases, (by.mantissa, by.shift), limits)
    return Numbers("short", wide, biases, short(node, by), limits)


def short(node: Node, by: Factor) -> tuple[Array, Array]:
    """Factors of 15 bits, and by how many bits their products are shifted to the right."""
    mantissa = np.where(by.mantissa < UNITY << 16, (by.mantissa + (1 << FRACTION)) >> 16, UNITY)
    right = FRACTION - by.shift
    if (right < 1).any():
        raise node.refused("has a factor that is too large for 15 bits")
    return mantissa, right


def float_limits(node: Node) -> tuple[float, float]:
    """Of results of floats, by the fused activation."""
    activation = node.option("FusedActivationFunction")
    if activation not in BOUNDS:
        raise node.refused(f"has the fused activation {activation}")
    low, high = BOUNDS[activation]
    return -np.inf if low is None else low, np.inf if high is None else high


def _expect_sums(node: Node, bias: int) -> None:
    """The bias is of the type of the sums."""
    if node.result().dtype != "INT16" or node.tensor(1).dtype != "INT8":
        raise node.refused(f"multiplies {node.tensor(1).dtype} weights to {node.result().dtype} elements")
    due = "INT32" if node.option("QuantizedBiasType") == BIAS_OF_32_BITS else "INT64"
    if node.has(bias) and node.tensor(bias).dtype != due:
        raise node.refused(f"has a bias of {node.tensor(bias).dtype} elements, which the runtime reads as {due} ones")


def panel_product(
    p: IntegerProgram, node: Node, layer: Numbers, walk: Walk, x: Pointer, y: Pointer, title: str
) -> None:
    """Call the kernel for one product."""
    kernel = PanelProduct(ending=layer.ending, is_long=layer.is_long)
    n = layer.weights.shape[1]
    w = p.constant(_packed(layer.weights, kernel.types[1]), node.tensor(1).name or "w")
    spans = [*walk.spans, (1, 0), (1, 0)][:2]
    if len(walk.spans) > 2:
        raise node.refused("has rows in more than two parts")
    walk = _cut(walk) if p.is_shared else walk
    counts = [walk.lines, walk.m, n, walk.x_line, walk.y_line, walk.ldx, walk.ldy, walk.depth]
    walked = [*counts, *(v for span in spans for v in span)]
    unit = STORED[node.result().dtype].itemsize
    shared = Split(walk.lines, count="lines", steps={"x": unit * walk.x_line, "y": unit * walk.y_line})
    p.call(node, kernel, x, w, *_tables(p, layer), y, *walked, *layer.limits, title=title, split=shared)


def _cut(walk: Walk) -> Walk:
    """A single line as some shorter ones of whole fours, which are computed side by side, if they divide."""
    if walk.lines > 1:
        return walk
    fits = (n for n in range(MOST_LINES, 0, -1) if walk.m % (ROWS * n) == 0)
    lines = next(fits, 1)
    m = walk.m // lines
    return walk._replace(lines=lines, m=m, x_line=m * walk.ldx, y_line=m * walk.ldy)


def _tables(p: IntegerProgram, layer: Numbers) -> list[Pointer]:
    biases = layer.biases.astype(np.float32 if layer.ending == "float" else np.int64)
    kind = np.float64 if layer.ending == "real" else np.int32
    return [p.constant(biases, "biases"), *(p.constant(t.astype(kind), "factors") for t in layer.tables)]


def _packed(weights: Array, ctype: str) -> Array:
    """Panels of columns, the last one filled up with zeros."""
    k, n = weights.shape
    padded = np.zeros((k, -(-n // PANEL) * PANEL), STORED["FLOAT32" if ctype == "float" else "INT16"])
    padded[:, :n] = weights
    return np.ascontiguousarray(padded.reshape(k, -1, PANEL).transpose(1, 0, 2))


def channel_product(p: IntegerProgram, node: Node) -> None:
    """A depthwise convolution with one filter for each channel."""
    x, w, y = node.tensor(0), node.tensor(1), node.result()
    channels = x.shape[3]
    window = Window.of(node, w.shape[1:3])
    source, (height, width) = bordered(p, node, window)
    layer = numbers_of(node, node.value(1).reshape(-1, channels), slice(0, channels))
    if layer.is_long:
        raise node.refused(f"has windows of {prod(window.size)} elements, whose sums exceed 32 bits")
    kernel = ChannelProduct(ending=layer.ending, size=window.size)
    weights = np.ascontiguousarray(layer.weights, STORED["FLOAT32" if layer.ending == "float" else "INT16"])
    (down, right), (tall, wide) = window.strides, window.dilations
    line = width * channels
    counts = [x.shape[0], *y.shape[1:3], channels, height * line, down * line, right * channels, tall * line]
    title = f"depthwise {window.size[0]}x{window.size[1]} filters, {channels} channels"
    tables = [p.constant(weights, w.name or "w"), *_tables(p, layer)]
    unit = STORED[x.dtype].itemsize
    steps = {"x": unit * down * line, "y": unit * y.shape[2] * channels}
    shared = Split(y.shape[1], count="rows", steps=steps) if x.shape[0] == 1 else None
    places = [source, *tables, p.result(y)]
    p.call(node, kernel, *places, *counts, wide * channels, *layer.limits, title=title, split=shared)

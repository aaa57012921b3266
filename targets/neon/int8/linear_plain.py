"""Layers of products that have no tiles: depthwise convolutions of any shape, and dense layers."""

from __future__ import annotations

import numpy as np

from codegen.neon.int8_nest import Nest, Operand
from codegen.rendering import literal
from compiler.tensor import Array
from targets.neon.int8.border import bordered
from targets.neon.int8.elementwise import clamp, less
from targets.neon.int8.panels import numbers_of, panel_product
from targets.neon.int8.program import IntegerProgram
from targets.neon.int8.table import lowers
from targets.neon.int8.walk import Walk
from targets.tflite.integer.fixed import Factor, factor
from targets.tflite.integer.kernel import Node
from targets.tflite.integer.windows import Window


def channel_factors(node: Node, count: int) -> Factor:
    """What one unit of a sum is in units of the result, for each channel."""
    real = channel_scales(node, count)
    return factor(real)


def channel_scales(node: Node, count: int) -> Array:
    """The same as real numbers."""
    scales = node.scales_of(node.tensor(1)).astype(np.float64)
    return np.broadcast_to(np.float64(node.scale()) * scales / np.float64(node.result_scale()), (count,))


def biases(node: Node, sums: Array) -> Array:
    """The biases less what the zero point of x adds, given the sums of weights of each channel."""
    total = -node.zero_point() * sums.astype(np.int64)
    if node.has(2):
        total = total + node.value(2).astype(np.int64)
    return (total % 2**32).astype(np.uint32).view(np.int32)


def plain_depthwise(p: IntegerProgram, node: Node) -> None:
    """One result at a time."""
    x, w, y = node.tensor(0), node.tensor(1), node.result()
    if x.dtype != "INT8":
        raise node.refused(f"has several filters for each channel of {x.dtype} elements")
    window = Window.of(node, w.shape[1:3])
    source, (height, width) = bordered(p, node, window)
    channels, many = x.shape[3], w.shape[3] // x.shape[3]
    (down, right), (tall, wide) = window.strides, window.dilations
    line = width * channels
    given = (height * line, down * line, right * channels, 1, 0)
    f = channel_factors(node, w.shape[3])
    tables = [biases(node, node.value(1).sum(axis=(0, 1, 2))), f.mantissa, f.shift]
    kernel = Nest(
        word="depthwise",
        sizes=(y.shape[0], y.shape[1], y.shape[2], channels, many),
        inner=window.size,
        operands=(
            Operand(ctype="int8_t", strides=given, inner=(tall * line, wide * channels)),
            Operand(ctype="int8_t", strides=(0, 0, 0, many, 1), inner=(w.shape[2] * w.shape[3], w.shape[3])),
            *[Operand(ctype="int32_t", strides=(0, 0, 0, many, 1))] * 3,
        ),
        start="c",
        update="sum + a * b",
        result=clamp(node, "times(sum, d, e)"),
        ctype="int8_t",
    )
    places = [p.constant(np.asarray(t).astype(np.int32), "factors") for t in tables]
    title = f"depthwise {window.size[0]}x{window.size[1]} filters, {channels} channels"
    p.call(node, kernel, source, p.at(w), *places, p.result(y), title=title)


@lowers("FULLY_CONNECTED")
def _fully_connected(p: IntegerProgram, node: Node) -> None:
    x, w, y = node.tensor(0), node.tensor(1), node.result()
    n, k = w.shape
    if x.dtype != "INT8" and w.number in p.constants:
        walk = Walk(1, x.size // k, 0, 0, k, n, k, ())
        numbers = numbers_of(node, node.value(1).T, slice(0, n))
        panel_product(p, node, numbers, walk, p.at(x), p.result(y), f"{k} to {n} features")
        return
    if x.dtype != "INT8":
        raise node.refused(f"has weights of {w.dtype} that are computed")
    zero = node.zero_point(1) if len(node.scales_of(w)) == 1 else 0
    offset = p.constant(node.value(2).astype(np.int32) if node.has(2) else np.zeros(n, np.int32), "biases")
    scales = p.constant(np.ascontiguousarray(channel_scales(node, n), np.float64), "scales")
    least, most = node.limits()
    limits = f"fmax(round(sum * d) + {node.result_zero_point()}, {literal(float(least))})"
    kernel = Nest(
        word="dense",
        sizes=(x.size // k, n),
        inner=(k,),
        operands=(
            Operand(ctype="int8_t", strides=(k, 0), inner=(1,)),
            Operand(ctype="int8_t", strides=(0, k), inner=(1,)),
            Operand(ctype="int32_t", strides=(0, 1)),
            Operand(ctype="double", strides=(0, 1)),
        ),
        start="c",
        update=f"sum + {less('a', node.zero_point())} * {less('b', zero)}",
        result=f"fmin({limits}, {literal(float(most))})",
        ctype="int8_t",
    )
    p.call(node, kernel, p.at(x), p.at(w), offset, scales, p.result(y), title=f"{k} to {n} features")

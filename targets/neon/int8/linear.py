"""Convolutions, whose pixels are rows of products of matrices."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from codegen.neon.copies import Fill
from codegen.neon.int8_ending import Ending
from codegen.neon.int8_model import Cut, cut
from codegen.neon.int8_product import PRODUCTS, Product, Strip
from codegen.neon.int8_tiles import TILES, DotTile
from codegen.program import Choice, Kernel, Pointer
from compiler.tensor import Array
from targets.neon.blocking import block
from targets.neon.int8.border import bordered
from targets.neon.int8.moving import Run, copy
from targets.neon.int8.program import IntegerProgram
from targets.neon.int8.table import lowers
from targets.tflite.integer.fixed import Factor, factor
from targets.tflite.integer.kernel import Node
from targets.tflite.integer.windows import Window

VARIANTS = {"auto": ("base", "dotprod", "i8mm"), "fp16": ("base",)}  # of others: themselves
OVERREAD = 128  # bytes that kernels may read beyond packed weights
INT32 = 2**32


class Walk(NamedTuple):
    """Where rows of a product lie: `lines` lines of `m` rows, and of a row what goes on side by side, then how often
    that is repeated and how far apart, the inner first."""

    lines: int
    m: int
    x_line: int
    y_line: int
    ldx: int
    ldy: int
    depth: int
    spans: tuple[tuple[int, int], ...]


class Layer(NamedTuple):
    """The numbers of a product: weights [elements of a row, in the order of the walk, columns], biases with the zero
    point of x in them, factors for each column, the limits of results."""

    weights: Array
    biases: Array
    by: Factor
    zero_point: int
    limits: tuple[int, int]

    @property
    def ending(self) -> Ending:
        """What is to be done with sums."""
        return Ending.of(self.by.shift, *self.limits)


@lowers("CONV_2D")
def _conv_2d(p: IntegerProgram, node: Node) -> None:
    x, w, y = node.tensor(0), node.tensor(1), node.result()
    filters = node.value(1)
    groups = x.shape[3] // w.shape[3]
    many = w.shape[0] // groups
    window = Window.of(node, w.shape[1:3])
    source, (height, width) = bordered(p, node, window, node.zero_point())
    place = p.result(y)
    images, rows, columns = y.shape[0], y.shape[1], y.shape[2]
    size, channels = window.size, x.shape[3]
    (down, right), (tall, wide) = window.strides, window.dilations
    depth = w.shape[3]
    line = width * channels
    spans = [(size[1], wide * channels), (size[0], tall * line)]
    if depth == channels and (wide == 1 or size[1] == 1):
        depth, spans = depth * size[1], spans[1:]
    spans = [s for s in spans if s[0] > 1]
    walk = Walk(rows, columns, down * line, columns * y.shape[3], right * channels, y.shape[3], depth, tuple(spans))
    if size == (1, 1) and window.strides == (1, 1):
        walk = walk._replace(lines=1, m=images * rows * columns)
        images = 1
    for image in range(images):
        for g in range(groups):
            part = slice(g * many, (g + 1) * many)
            layer = layer_of(node, filters[part].reshape(many, -1).T, part)
            given = source._replace(offset=source.offset + image * height * line + g * w.shape[3])
            result = place._replace(offset=place.offset + image * rows * walk.y_line + g * many)
            title = f"{size[0]}x{size[1]} filters, {x.shape[3]} to {y.shape[3]} channels, {rows}x{columns} pixels"
            product(p, node, layer, walk, given, result, title)


@lowers("TRANSPOSE_CONV")
def _transpose_conv(p: IntegerProgram, node: Node) -> None:
    """A convolution with mirrored filters of the image, whose pixels are apart by the stride, with borders."""
    if node.is_wide:
        raise node.refused("has 16-bit elements, which this target does not take")
    w, x, y = node.tensor(1), node.tensor(2), node.result()
    images, height, width, channels = x.shape
    rows, columns = y.shape[1:3]
    window = Window.of(node, w.shape[1:3])
    size, strides = window.size, window.strides
    before = [k - 1 - begin for k, (begin, _) in zip(size, window.padding((rows, columns)), strict=True)]
    tall, wide = rows + size[0] - 1, columns + size[1] - 1
    line = wide * channels
    spread = p.scratch(images * tall * line, "spread")
    zero = p.constant(np.array([node.zero_point(2)], np.int8), "zero")
    source = p.at(x)
    p.call(node, Fill(size=1), zero, spread, images * tall * line, title="an empty image")
    kept = [_inside(n, s, b, e) for n, s, b, e in zip((height, width), strides, before, (tall, wide), strict=True)]
    (top, many), (left, most) = kept
    steps = (height * width * channels, width * channels, channels, 1)
    first = top * steps[1] + left * channels
    target = (before[0] + top * strides[0]) * line + (before[1] + left * strides[1]) * channels
    run = Run(
        (images, many, most, channels), first, steps, target, (tall * line, strides[0] * line, strides[1] * channels, 1)
    )
    copy(p, node, run, source, spread, x)
    mirrored = node.value(1)[:, ::-1, ::-1].reshape(w.shape[0], -1).T
    layer = layer_of(node, mirrored, slice(0, w.shape[0]), bias=3, source=2)
    place = p.result(y)
    spans = ((size[0], line),) if size[0] > 1 else ()
    n = w.shape[0]
    walk = Walk(rows, columns, line, columns * n, channels, n, size[1] * channels, spans)
    for image in range(images):
        given = spread._replace(offset=spread.offset + image * tall * line)
        result = place._replace(offset=place.offset + image * rows * columns * n)
        title = f"transposed {size[0]}x{size[1]} filters, {channels} to {n} channels, {rows}x{columns} pixels"
        product(p, node, layer, walk, given, result, title)


def _inside(count: int, stride: int, before: int, length: int) -> tuple[int, int]:
    """Which of `count` places, `stride` apart from `before` on, lie in so many: the first and their number."""
    first = max(0, -(before // stride)) if before < 0 else 0
    last = min(count, (length - before - 1) // stride + 1)
    return first, max(0, last - first)


def layer_of(node: Node, weights: Array, part: slice, bias: int = 2, source: int = 0) -> Layer:
    """Of a product whose weights are operand 1, [elements, columns]."""
    n = weights.shape[1]
    wide = weights.astype(np.int64)
    sums = -node.zero_point(source) * wide.sum(axis=0)
    if node.has(bias):
        sums = sums + node.value(bias).astype(np.int64)[part]
    scales = node.scales_of(node.tensor(1)).astype(np.float64)
    real = np.float64(node.scale(source)) * scales / np.float64(node.result_scale())
    by = factor(np.broadcast_to(real, (node.tensor(1).shape[0],))[part] if len(real) > 1 else np.repeat(real, n))
    biases = (sums % INT32).astype(np.uint32).view(np.int32)
    return Layer(weights, biases, by, node.result_zero_point(), node.limits())


def product(p: IntegerProgram, node: Node, layer: Layer, walk: Walk, x: Pointer, y: Pointer, title: str) -> None:
    """Call the kernels for one product, of which the processor chooses if it may."""
    variants = VARIANTS.get(p.isa, (p.isa,))
    made = [kernel_for(v, layer, split(v, layer, walk, p.in_order), p.in_order) for v in variants]
    weights = [p.constant(packed(kernel, layer), node.tensor(1).name or "w") for kernel in made]
    kernels: list[Kernel] = [k.with_(packings=len(made), packing=i) for i, k in enumerate(made)]
    chosen = kernels[0] if len(kernels) == 1 else Choice(variants=tuple(kernels))
    p.call(node, chosen, x, *weights, y, title=title)


def split(variant: str, layer: Layer, walk: Walk, in_order: bool = False) -> Walk:
    """A single line of many rows becomes lines of as many tiles as fit a cache, if they divide."""
    if walk.lines > 1:
        return walk
    made = cut_of(variant, layer, walk, in_order)
    if made.last_tiles:
        return walk
    room = block(made.tiles, made.rows * walk.depth)
    tiles = next(t for t in range(min(room, made.tiles), 0, -1) if made.tiles % t == 0)
    if tiles * 4 < room:
        return walk
    m = tiles * made.rows
    return walk._replace(lines=made.tiles // tiles, m=m, x_line=m * walk.ldx, y_line=m * walk.ldy)


def cut_of(variant: str, layer: Layer, walk: Walk, in_order: bool) -> Cut:
    """How a line is cut into tiles."""
    return cut(variant, walk.m, layer.weights.shape[1], walk.depth, prod(n for n, _ in walk.spans), in_order)


def kernel_for(variant: str, layer: Layer, walk: Walk, in_order: bool = False) -> Product:
    """The kernel of a variant."""
    made = cut_of(variant, layer, walk, in_order)
    n = layer.weights.shape[1]
    in_order = in_order and variant == "dotprod"
    tile = (
        DotTile(made.rows, made.vectors, in_order) if variant == "dotprod" else TILES[variant](made.rows, made.vectors)
    )
    return PRODUCTS[variant](
        variant=variant,
        levels=len(walk.spans),
        ending=layer.ending,
        in_order=in_order,
        rest=walk.depth % tile.per_turn,
        is_short=walk.depth < tile.per_turn,
        is_narrow=bool((layer.weights > -128).all()),
        rows=made.rows,
        columns=4 * made.vectors,
        last_rows=made.last_rows if made.last_tiles else 0,
        last_columns=made.last_columns,
        lines=walk.lines,
        x_line=walk.x_line,
        y_line=walk.y_line,
        block=block(walk.lines, walk.m * walk.depth),
        tiles=made.tiles,
        last_tiles=made.last_tiles,
        n=n,
        ldx=walk.ldx,
        ldy=walk.ldy,
        depth=walk.depth,
        spans=walk.spans,
    )


def packed(kernel: Product, layer: Layer) -> Array:
    """The panels of weights, one after the other, as the kernel reads them."""
    n, width = kernel.n, kernel.columns
    parts = []
    for first in range(0, n, width):
        strip = kernel.strip(kernel.rows, min(width, n - first))
        parts.append(panel(strip, layer, slice(first, first + strip.columns), kernel.depth))
    return np.concatenate([*parts, np.zeros(OVERREAD, np.uint8)])


def panel(strip: Strip, layer: Layer, columns: slice, depth: int) -> Array:
    """Limits, factors, biases and weights of some columns; missing ones are zeros."""
    least, most = layer.limits
    limits = [np.full(8, layer.zero_point, np.int16), np.full(16, least, np.int8), np.full(16, most, np.int8)]
    shift = layer.by.shift[columns]
    tables = [layer.by.mantissa[columns], np.minimum(shift, 0)]
    tables += [np.maximum(shift, 0)] if strip.ending.has_left else []
    vectors = [_spread(t, strip) for t in (*tables, layer.biases[columns])]
    segments = layer.weights[:, columns].reshape(-1, depth, strip.columns)
    groups = -(-depth // strip.group)
    padded = np.zeros((len(segments), groups * strip.group, strip.padded), np.int8)
    padded[:, :depth, : strip.columns] = segments
    w = padded.reshape(len(segments), groups, strip.group, strip.padded).transpose(0, 1, 3, 2)
    return np.concatenate([np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (*limits, *vectors, w)])


def _spread(values: Array, strip: Strip) -> Array:
    """A number for each column, in the order of the accumulators."""
    whole = np.zeros(strip.padded, np.int32)
    whole[: strip.columns] = values
    return whole if strip.copies == 1 else np.repeat(whole.reshape(-1, 1, 2), 2, axis=1).reshape(-1)

"""Convolutions, whose pixels are rows of products of matrices."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from codegen.neon.copies import Fill
from codegen.neon.int8_ending import Ending
from codegen.neon.int8_model import Cut, cut
from codegen.neon.int8_product import PARTS, PRODUCTS, Product, Strip
from codegen.neon.int8_rows import RowsChoice
from codegen.neon.int8_tiles import TILES, DotTile
from codegen.program import Choice, Kernel, Pointer, Split
from compiler.tensor import Array
from targets.neon.blocking import block
from targets.neon.int8.border import bordered
from targets.neon.int8.moving import Run, copy
from targets.neon.int8.panels import numbers_of, panel_product
from targets.neon.int8.program import IntegerProgram
from targets.neon.int8.table import lowers
from targets.neon.int8.walk import Walk
from targets.tflite.integer.fixed import Factor, factor
from targets.tflite.integer.kernel import Node
from targets.tflite.integer.windows import Window
from targets.tflite.reader import STORED

VARIANTS = {"auto": ("base", "dotprod", "i8mm"), "fp16": ("base",)}  # of others: themselves
LINES_OF_EACH = 4  # for each thread, so that these end at about the same time
OVERREAD = 128  # bytes that kernels may read beyond packed weights
INT32 = 2**32


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
    source, (height, width) = bordered(p, node, window)
    place = p.result(y)
    unit = STORED[x.dtype].itemsize
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
            given = source._replace(offset=source.offset + unit * (image * height * line + g * w.shape[3]))
            result = place._replace(offset=place.offset + unit * (image * rows * walk.y_line + g * many))
            title = f"{size[0]}x{size[1]} filters, {x.shape[3]} to {y.shape[3]} channels, {rows}x{columns} pixels"
            multiplied(p, node, filters[part].reshape(many, -1).T, walk, (given, result), title, part)


@lowers("TRANSPOSE_CONV")
def _transpose_conv(p: IntegerProgram, node: Node) -> None:
    """A convolution with mirrored filters of the image, whose pixels are apart by the stride, with borders."""
    w, x, y = node.tensor(1), node.tensor(2), node.result()
    images, height, width, channels = x.shape
    rows, columns = y.shape[1:3]
    window = Window.of(node, w.shape[1:3])
    size, strides = window.size, window.strides
    before = [k - 1 - begin for k, (begin, _) in zip(size, window.padding((rows, columns)), strict=True)]
    tall, wide = rows + size[0] - 1, columns + size[1] - 1
    line = wide * channels
    unit = STORED[x.dtype].itemsize
    spread = p.scratch(unit * images * tall * line, "spread")
    zero = p.constant(np.array([0 if x.dtype == "FLOAT32" else node.zero_point(2)], STORED[x.dtype]), "zero")
    source = p.at(x)
    p.call(node, Fill(size=unit), zero, spread, images * tall * line, title="an empty image")
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
    place = p.result(y)
    spans = ((size[0], line),) if size[0] > 1 else ()
    n = w.shape[0]
    walk = Walk(rows, columns, line, columns * n, channels, n, size[1] * channels, spans)
    for image in range(images):
        given = spread._replace(offset=spread.offset + unit * image * tall * line)
        result = place._replace(offset=place.offset + unit * image * rows * columns * n)
        title = f"transposed {size[0]}x{size[1]} filters, {channels} to {n} channels, {rows}x{columns} pixels"
        multiplied(p, node, mirrored, walk, (given, result), title, slice(0, n), bias=3, source=2)


def _inside(count: int, stride: int, before: int, length: int) -> tuple[int, int]:
    """Which of `count` places, `stride` apart from `before` on, lie in so many: the first and their number."""
    first = max(0, -(before // stride)) if before < 0 else 0
    last = min(count, (length - before - 1) // stride + 1)
    return first, max(0, last - first)


def multiplied(
    p: IntegerProgram,
    node: Node,
    weights: Array,
    walk: Walk,
    places: tuple[Pointer, Pointer],
    title: str,
    part: slice,
    bias: int = 2,
    source: int = 0,
) -> None:
    """Call the kernels for a product with some columns of operand 1, from one place to another."""
    if node.tensor(source).dtype == node.tensor(1).dtype == node.result().dtype == "INT8":
        product(p, node, layer_of(node, weights, part, bias, source), walk, *places, title)
    else:
        panel_product(p, node, numbers_of(node, weights, part, bias, source), walk, *places, title)


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
    made = [kernel_for(v, layer, split(v, layer, walk, p.in_order, p.threads), p.in_order) for v in variants]
    if p.is_shared:
        made = [k.with_(shares="lines" if k.lines >= min(p.threads, k.panels) else "columns") for k in made]
    weights = [p.constant(packed(kernel, layer), node.tensor(1).name or "w") for kernel in made]
    kernels = [k.with_(packings=len(made), packing=i) for i, k in enumerate(made)]
    if len(kernels) > 1 and (rows := RowsChoice.of(kernels)) is not None:
        of = kernels[0]
        p.call(node, rows, x, *weights, y, of.lines, of.m, of.n, of.depth, title=title)
        return
    chosen: Kernel = kernels[0] if len(kernels) == 1 else Choice(variants=tuple(kernels))
    if not p.is_shared:
        p.call(node, chosen, x, *weights, y, title=title)
        return
    p.call(node, chosen, x, *weights, y, 0, PARTS, title=title, split=Split(PARTS, begin="begin", end="end"))


def split(variant: str, layer: Layer, walk: Walk, in_order: bool = False, threads: int = 1) -> Walk:
    """A single line of many rows becomes lines of as many tiles as fit a cache, if they divide, and enough for each
    thread to have some."""
    if walk.lines > 1:
        return walk
    made = cut_of(variant, layer, walk, in_order)
    if made.last_tiles:
        return walk
    room = block(made.tiles, made.rows * walk.depth)
    room = min(room, max(made.tiles // (LINES_OF_EACH * threads), 1)) if threads > 1 else room
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

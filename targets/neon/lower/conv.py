"""Convolutions: products of pixels with matrices where they can be, else one result at a time."""

from __future__ import annotations

from math import prod

import numpy as np

from codegen.neon.border import Border
from codegen.neon.conv import Conv, Geometry, Ints, levels, run
from codegen.neon.gemm import SIZE
from codegen.neon.gemm_half import HALF, Fp16Conv, HalfConv, walk
from codegen.neon.gemm_model import Tiles, tiles
from codegen.neon.gemm_schedule import FMLA, Instruction
from codegen.program import Pointer, Split
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import channels_last, order_of
from compiler.tensor import F16, Array
from targets.neon.blocking import Core, block
from targets.neon.lower import winograd
from targets.neon.lower.depthwise import depthwise
from targets.neon.lower.depthwise_half import depthwise_halves, is_strip
from targets.neon.lower.matmul import FLOATS, OVERREAD, among, packed, product
from targets.neon.program import NeonProgram
from targets.neon.table import lowers
from targets.source.lower.filters import is_depthwise, is_pointwise
from targets.source.lower.plain import plain_conv
from targets.source.lower.products import NUMBERS, bias_of
from targets.source.program import bytes_of


def is_image(node: Node) -> bool:
    """Whether the layer is a convolution of channels-last floats over one or two axes with constant filters."""
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None
    known = w.data is not None and (b is None or b.data is not None)
    last = channels_last(x.type.rank)
    lies = order_of(x.type) == last and order_of(node.output.type) == last
    return known and lies and x.type.dtype in FLOATS and x.type.rank in (3, 4) and bool(node.output.type.size)


@lowers(ops.Conv, needs=(NUMBERS,), tails=is_image)
def _conv(p: NeonProgram, node: Node, op: ops.Conv) -> None:
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None
    if not is_image(node):
        plain_conv(p, node, op)
    elif is_pointwise(node, op):
        assert w.data is not None
        matrix = np.asarray(w.data).reshape(w.type.dims[:2]).T
        product(p, node, x, matrix, b, f"1x1 convolution, {matrix.shape[0]} to {matrix.shape[1]} channels")
    elif is_depthwise(node, op) and x.type.dtype is not F16:
        depthwise(p, node, op)
    elif x.type.dtype is F16:
        _direct_halves(p, node, op)
    else:
        _direct(p, node, op)


def _direct(p: NeonProgram, node: Node, op: ops.Conv) -> None:
    w, b = (*node.inputs, None)[1:3]
    assert w is not None and w.data is not None
    tail = p.tail(node)
    data = np.asarray(w.data)
    shape = geometry(node, op)
    cut = cut_of(shape, p.core)
    chosen = winograd.choice(shape, cut, p.core)
    if chosen is not None and winograd.is_accurate(data, chosen.out):
        x, whole = bordered(p, node, op, winograd.border(shape, chosen.out))
        winograd.lower(p, node, x, whole, chosen, data, bias_of(b, shape.filters))
        return
    x, _ = bordered(p, node, op)
    kernel = direct(shape, cut, p.core).with_(tail=tail.expression)
    weights = p.constant(packed_filters(data, bias_of(b, shape.filters), shape.groups, cut), w.name or "w")
    others = [p.at(v) for v in tail.others]
    y = p.result(tail.value)
    title = f"{'x'.join(map(str, shape.kernel))} convolution, {shape.channels} to {shape.filters} channels"
    split = Split(shape.out[0], begin="begin", end="last")
    p.call(kernel, x, weights, *others, y, 0, shape.out[0], node=node, title=title, split=split)


def _direct_halves(p: NeonProgram, node: Node, op: ops.Conv) -> None:
    """Winograd's transforms take sums of many numbers of both signs: in 16 bits they would lose what the layers may."""
    w, b = (*node.inputs, None)[1:3]
    assert w is not None and w.data is not None
    tail, shape = p.tail(node), geometry(node, op)
    cut = cut_of(shape, p.core, HALF)
    x, _ = bordered(p, node, op)
    if is_strip(shape):
        depthwise_halves(p, node, x, shape, np.asarray(w.data), bias_of(b, shape.filters))
        return
    kernels = [kind(**direct(shape, cut, p.core).with_(tail=tail.expression).values()) for kind in (HalfConv, Fp16Conv)]
    weights = p.constant(
        packed_filters(np.asarray(w.data), bias_of(b, shape.filters), shape.groups, cut, True), w.name or "w"
    )
    others = [p.at(v) for v in tail.others]
    y = p.result(tail.value)
    title = f"{'x'.join(map(str, shape.kernel))} convolution, {shape.channels} to {shape.filters} channels"
    split = Split(shape.out[0], begin="begin", end="last")
    kernel = among(p, node, kernels if walk(run(shape), levels(shape)) else kernels[:1])
    p.call(kernel, x, weights, *others, y, 0, shape.out[0], node=node, title=title, split=split)


def cut_of(shape: Geometry, core: Core, instruction: Instruction = FMLA) -> Tiles:
    """The tiles of a line of the result."""
    segments = prod(count for count, _ in levels(shape))
    many = shape.filters // shape.groups
    sizes = shape.out[1], many, run(shape), segments, shape.out[0]
    return tiles(*sizes, instruction=instruction, in_order=core.is_in_order)


def direct(shape: Geometry, cut: Tiles, core: Core) -> Conv:
    """The kernel of a layer, cut as told."""
    return Conv(
        **shape.values(),
        rows=cut.rows,
        count=cut.count,
        last_rows=cut.last_rows,
        last_count=cut.last_count,
        vectors=cut.vectors,
        block=block(shape.out[0], SIZE * shape.strides[0] * shape.line, core),
        in_order=core.is_in_order,
    )


def geometry(node: Node, op: ops.Conv, extra: Ints = (0, 0)) -> Geometry:
    """What is known of a layer; `extra` lines and columns of zeros are at the end of its image."""
    x, w = value_of(node.inputs[0]), value_of(node.inputs[1])
    n, c, *_ = x.type.dims
    m, _, *kernel = w.type.dims
    one = [1] * (2 - len(kernel))
    size, pads = _window(x, op, extra)
    return Geometry(
        images=n,
        height=size[0] + pads[0] + pads[2],
        width=size[1] + pads[1] + pads[3],
        channels=c,
        filters=m,
        kernel=(*one, *kernel),
        out=(*one, *node.output.type.dims[2:]),
        strides=(*one, *op.strides),
        dilations=(*one, *op.dilations),
        groups=op.groups,
    )


def _window(x: Value, op: ops.Conv, extra: Ints) -> tuple[Ints, Ints]:
    """The size of the image, and its borders."""
    size, pads = x.type.dims[2:], op.pads
    if len(size) == 1:
        size, pads = (1, *size), (0, pads[0], 0, pads[1])
    return size, (*pads[:2], pads[2] + extra[0], pads[3] + extra[1])


def bordered(p: NeonProgram, node: Node, op: ops.Conv, extra: Ints = (0, 0)) -> tuple[Pointer, Geometry]:
    """Where the image lies with its borders, and what is known of the layer."""
    x = value_of(node.inputs[0])
    size, pads = _window(x, op, extra)
    shape = geometry(node, op, extra)
    source = p.at(x)
    if not any(pads):
        return source, shape
    size_of = bytes_of(x.type.dtype)
    pixel = size_of * shape.channels
    to = p.scratch(shape.images * shape.height * size_of * shape.line, f"{x.name or 'image'}_with_border")
    sizes = (shape.images, size[0], size[1] * pixel, pads[0], pads[2], pads[1] * pixel, pads[3] * pixel)
    p.call(Border(), source, to, *sizes, 0, node=node, title=f"border of {', '.join(map(str, pads))} zeros")
    return to, shape


def packed_filters(w: Array, bias: Array, groups: int, cut: Tiles, is_half: bool = False) -> Array:
    """[M, C / groups, *K] and [M] as the strips read them, group by group."""
    m = w.shape[0]
    matrix = np.moveaxis(w, 1, -1).reshape(groups, m // groups, -1)
    biases = bias.reshape(groups, -1)
    over = OVERREAD * (2 if is_half else 1)
    parts = [packed(matrix[g].T, biases[g], cut, is_half)[:-over] for g in range(groups)]
    return np.concatenate([*parts, np.zeros(over, parts[0].dtype)])


def value_of(v: Value | None) -> Value:
    """An operand that is there."""
    assert v is not None
    return v

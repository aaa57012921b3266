"""Convolutions: products of pixels with matrices where they can be, else one result at a time."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from codegen.metal.conv import Conv, ConvFew, Windows, packed_filters
from codegen.metal.gemm import TILES, WIDE
from codegen.metal.launch import tile_for
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import channels_last, order_of
from targets.metal.lower.depthwise import depthwise
from targets.metal.lower.matmul import MATRICES, biases, is_float, named, product, vector_of
from targets.metal.lower.results import result_of
from targets.metal.lower.winograd import is_winograd, winograd
from targets.metal.program import MetalProgram
from targets.metal.table import lowers
from targets.source.lower.filters import is_depthwise, is_pointwise
from targets.source.lower.plain import plain_conv
from targets.source.lower.products import NUMBERS
from targets.source.program import bytes_of, ctype_of


def is_image(node: Node) -> bool:
    """Whether the layer is a convolution of channels-last floats over one or two axes with constant filters."""
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None
    known = w.data is not None and (b is None or b.data is not None)
    last = channels_last(x.type.rank)
    lies = order_of(x.type) == last and order_of(node.output.type) == last
    return known and lies and x.type.rank in (3, 4) and is_float(node)


@lowers(ops.Conv, needs=(NUMBERS,), tails=is_image)
def _conv(p: MetalProgram, node: Node, op: ops.Conv) -> None:
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None
    if not is_image(node):
        plain_conv(p, node, op)
    elif is_pointwise(node, op):
        assert w.data is not None
        matrix = np.asarray(w.data).reshape(w.type.dims[:2]).T
        product(p, node, x, matrix, b, f"1x1 convolution, {matrix.shape[0]} to {matrix.shape[1]} channels")
    elif is_depthwise(node, op):
        depthwise(p, node, op)
    elif is_winograd(node, op):
        winograd(p, node, op)
    else:
        windows(p, node, op)


def windows(p: MetalProgram, node: Node, op: ops.Conv) -> None:
    """A convolution as a product whose rows are gathered from the image."""
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None and w.data is not None
    tail = p.tail(node)
    source = p.at(x)
    y = result_of(p, tail.value)
    kernel = kernel_of(p, node, op).with_(tail=tail.expression, **y.fields)
    filters = np.asarray(w.data).astype(x.type.dtype.numpy)
    given = [source, p.constant(packed_filters(filters, op.groups, kernel), named(node)), *biases(p, b)]
    given += [*(p.at(v) for v in tail.others), y.at]
    numbers = sizes_of(x, node.output, op, w.type.dims[1])
    title = f"{'x'.join(map(str, w.type.dims[2:]))} convolution, {x.type.dims[1]} to {w.type.dims[0]} channels"
    p.call(kernel, *given, *(numbers[name] for name in kernel.counts), *y.numbers, node=node, title=title)


def sizes_of(x: Value, y: Value, op: ops.Conv, depth: int) -> dict[str, int]:
    """The numbers that a dispatch gives, by their names."""
    images, channels, *size = x.type.dims
    filters, *out = y.type.dims[1:]
    return {
        "m": images * prod(out),
        "n": filters // op.groups,
        "depth": depth,
        "channels": channels,
        "filters": filters,
        "groups": op.groups,
        "height": size[0] if len(size) == 2 else 1,
        "width": size[-1],
        "out_height": out[0] if len(out) == 2 else 1,
        "out_width": out[-1],
    }


def kernel_of(p: MetalProgram, node: Node, op: ops.Conv) -> Windows:
    """The kernel of a layer without its tail."""
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None
    depth, *kernel = w.type.dims[1:]
    of = sizes_of(x, node.output, op, depth)
    element, axes = bytes_of(x.type.dtype), len(kernel)
    cut = tile_for(of["m"], of["n"], depth * prod(kernel), p.gpu, TILES, element=element, batch=op.groups).tile
    values: dict[str, Any] = {  # Any: fields of several types
        "rows": cut.rows,
        "columns": cut.columns,
        "has_matrices": p.family.has(MATRICES),
        "ctype": ctype_of(x.type.dtype),
        "kernel": _pair(kernel, 1),
        "strides": _pair(op.strides, 1),
        "dilations": _pair(op.dilations, 1),
        "begins": _pair(op.pads[:axes], 0),
        "has_border": any(op.pads),
        "is_grouped": op.groups > 1,
        "has_bias": b is not None,
    }
    if depth % Conv.step == 0 and vector_of(p.at(x), depth, element) == WIDE:
        return Conv(**values)
    return ConvFew(**values, depth=depth, vector=vector_of(p.at(x), depth, element))


def _pair(axes: tuple[int, ...] | list[int], missing: int) -> tuple[int, int]:
    """Of height and width; a lone axis is the width."""
    return (axes[0], axes[1]) if len(axes) == 2 else (missing, axes[0])

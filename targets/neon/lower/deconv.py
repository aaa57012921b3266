"""Transposed convolutions: a product gives what each pixel adds to its neighbours, results gather that."""

from __future__ import annotations

from math import prod

import numpy as np

from codegen.expression import Operand
from codegen.neon.deconv import SumColumns
from codegen.neon.gemm import SIZE
from codegen.program import Split
from compiler import ops
from compiler.graph import Node
from compiler.ops.layout import channels_last, order_of
from compiler.ops.window import Ints
from compiler.tensor import F32, Array
from targets.neon.lower.matmul import product
from targets.neon.program import NeonProgram
from targets.neon.table import lowers
from targets.source.lower.filters import pair
from targets.source.lower.moving import dense, move
from targets.source.lower.plain import plain_deconv
from targets.source.lower.products import bias_of
from targets.source.needs import SOME_FLOATS


def is_image(node: Node) -> bool:
    """Whether a layer is of channels-last floats over one or two axes with constant filters, which are all of one group
    or each of its own channel."""
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None
    groups = node.op.values()["groups"]
    known = w.data is not None and (b is None or b.data is not None)
    last = channels_last(x.type.rank)
    lies = order_of(x.type) == last and order_of(node.output.type) == last
    fits = groups == 1 or (groups == x.type.dims[1] and w.type.dims[1] == 1)
    return known and lies and fits and x.type.dtype is F32 and x.type.rank in (3, 4) and bool(node.output.type.size)


@lowers(ops.ConvTranspose, needs=(SOME_FLOATS,), tails=is_image)
def _conv_transpose(p: NeonProgram, node: Node, op: ops.ConvTranspose) -> None:
    if not is_image(node):
        plain_deconv(p, node, op)
        return
    w = node.inputs[1]
    assert w is not None and w.data is not None
    taps = np.moveaxis(np.asarray(w.data, np.float32), 1, -1)  # [C, *K, M]
    if op.groups > 1:
        _gathered(p, node, op, np.ascontiguousarray(np.moveaxis(taps[..., 0], 0, -1)))
    elif is_shuffle(op, w.type.dims[2:]) and not p.tail(node).others:
        _shuffled(p, node, taps)
    else:
        _gathered(p, node, op, taps)


def is_shuffle(op: ops.ConvTranspose, kernel: Ints) -> bool:
    """Whether each result comes from one pixel."""
    return op.strides == kernel and not any((*op.pads, *op.output_padding)) and set(op.dilations) == {1}


def _shuffled(p: NeonProgram, node: Node, taps: Array) -> None:
    """A product, whose results are moved to their places."""
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None
    tail = p.tail(node)
    n, _, *size = x.type.dims
    c, *kernel, m = taps.shape
    size, kernel = ([1, *size], [1, *kernel]) if len(size) == 1 else (size, kernel)
    shape = [n, *size, *kernel, m]  # images, height, width, rows, columns, channels
    bias = np.tile(bias_of(b, m).astype(np.float32), prod(kernel))
    columns = p.scratch(SIZE * prod(shape), "columns")
    product(p, node, x, taps.reshape(c, -1), bias, "what pixels become", (columns, tail.expression))
    order = (0, 1, 3, 2, 4, 5)
    moved = [shape[a] for a in order]
    s = dense(shape)
    given = (columns, [s[a] for a in order])
    move(p, node, F32, given, (p.result(tail.value), dense(moved)), moved, f"their places in {node.output.type}")


def _gathered(p: NeonProgram, node: Node, op: ops.ConvTranspose, taps: Array) -> None:
    """Results gather what pixels add to them: `taps` are [*K, C] of a depthwise layer, else [C, *K, M]."""
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None
    tail, out, size = p.tail(node), node.output.type, w.type.dims[2:]
    kernel = SumColumns(window=pair(size, 1), is_depthwise=op.groups > 1, tail=tail.expression)
    if op.groups > 1:
        given = [p.at(x), p.constant(taps, w.name or "w")]
    else:
        matrix = taps.reshape(taps.shape[0], -1)
        columns = p.scratch(SIZE * x.type.size // matrix.shape[0] * matrix.shape[1], "columns")
        product(p, node, x, matrix, None, f"what pixels add to {matrix.shape[1]} results", (columns, Operand(0)))
        given = [columns]
    bias = p.constant(bias_of(b, out.dims[1]).astype(np.float32), (b and b.name) or "b")
    others = [p.at(v) for v in tail.others]
    image = [x.type.dims[0], *pair(x.type.dims[2:], 1), out.dims[1], *pair(out.dims[2:], 1)]
    steps = (*pair(op.strides, 1), *pair(op.dilations, 1), *pair(op.pads[: len(size)], 0))
    split = Split(image[4], begin="begin", end="end")
    numbers = (*image, 0, image[4], *steps)
    title = f"transposed {'x'.join(map(str, size))} convolution to {out}"
    p.call(kernel, *given, bias, *others, p.result(tail.value), *numbers, node=node, title=title, split=split)

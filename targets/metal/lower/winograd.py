"""3 x 3 convolutions by fewer multiplications."""

from __future__ import annotations

import numpy as np

from codegen.metal.winograd import ADDED, CHANNELS, FILTERS, Winograd, transformed
from compiler import ops
from compiler.graph import Node
from targets.metal.lower.results import result_of
from targets.metal.program import MetalProgram
from targets.source.lower.products import bias_of
from targets.source.program import ctype_of

NUMPY = {"float": np.float32, "half_t": np.float16}
HALF_END = 65504.0


def is_winograd(node: Node, op: ops.Conv) -> bool:
    """Whether it pays: 3 x 3 filters at each pixel, enough of them and of channels to fill a threadgroup's matrices,
    and transformed weights that halves hold."""
    x, w = node.inputs[:2]
    assert x is not None and w is not None and w.data is not None
    filters, channels = w.type.dims[:2]
    plain = w.type.dims[2:] == (3, 3) and set(op.strides) == {1} and set(op.dilations) == {1} and op.groups == 1
    enough = channels >= 2 * CHANNELS and filters >= FILTERS // 2 and min(node.output.type.dims[2:]) >= 2
    return plain and enough and float(np.abs(np.asarray(w.data)).max(initial=0.0)) * 2.25 * ADDED < HALF_END


def winograd(p: MetalProgram, node: Node, op: ops.Conv) -> None:
    """A convolution of channels-last images with constant filters."""
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None and w.data is not None
    tail = p.tail(node)
    ctype = ctype_of(tail.value.type.dtype)
    filters, channels = w.type.dims[:2]
    y = result_of(p, tail.value)
    kernel = Winograd(tail=tail.expression, ctype=ctype, **y.fields)
    weights = (transformed(np.asarray(w.data)) * kernel.shrink).astype(NUMPY[ctype])
    given = [p.at(x), p.constant(weights, w.name or "w")]
    given += [p.constant(bias_of(b, filters).astype(np.float32), "bias"), *(p.at(v) for v in tail.others)]
    size, out = x.type.dims[2:], node.output.type.dims[2:]
    numbers = (x.type.dims[0], *size, channels, filters, *out, *op.pads[:2])
    title = f"3x3 convolution, {channels} to {filters} channels"
    p.call(kernel, *given, y.at, *numbers, *y.numbers, node=node, title=title)

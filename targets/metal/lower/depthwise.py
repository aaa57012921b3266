"""Depthwise convolutions of channels-last images."""

from __future__ import annotations

from math import prod

import numpy as np

from codegen.metal.depthwise import Depthwise
from compiler import ops
from compiler.graph import Node
from targets.metal.lower.results import result_of
from targets.metal.program import MetalProgram
from targets.source.lower.filters import pair
from targets.source.lower.products import bias_of
from targets.source.program import ctype_of


def depthwise(p: MetalProgram, node: Node, op: ops.Conv) -> None:
    """A convolution with as many groups as channels, over one or two axes, of channels-last floats with constant
    filters [groups * many, 1, *K]."""
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None and w.data is not None
    tail = p.tail(node)
    axes = len(op.strides)
    channels, _, *window = w.type.dims
    y = result_of(p, tail.value)
    kernel = Depthwise(
        window=pair(window, 1),
        strides=pair(op.strides, 1),
        dilations=pair(op.dilations, 1),
        many=channels // x.type.dims[1],
        tail=tail.expression,
        ctype=ctype_of(tail.value.type.dtype),
        **y.fields,
    )
    filters = np.moveaxis(np.asarray(w.data).reshape(channels, prod(window)), 0, -1)
    given = [p.at(x), p.constant(np.ascontiguousarray(filters), w.name or "w")]
    given += [p.constant(bias_of(b, channels).astype(np.float32), "bias"), *(p.at(v) for v in tail.others)]
    size, out = pair(x.type.dims[2:], 1), pair(node.output.type.dims[2:], 1)
    numbers = (x.type.dims[0], *size, channels, *out, *pair(op.pads[:axes], 0))
    title = f"depthwise {'x'.join(map(str, window))} convolution, {channels} channels"
    p.call(kernel, *given, y.at, *numbers, *y.numbers, node=node, title=title)

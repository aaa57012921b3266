"""Filters over one or two axes: what kinds of convolution a layer is, for every target that writes source."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from compiler import ops
from compiler.graph import Node


def is_pointwise(node: Node, op: ops.Conv) -> bool:
    """Whether each pixel of the result is a product of one of the operand."""
    w = node.inputs[1]
    assert w is not None
    whole = prod(w.type.dims[2:]) == 1 and not any(op.pads) and all(s == 1 for s in op.strides)
    return whole and op.groups == 1


def is_depthwise(node: Node, op: ops.Conv) -> bool:
    """Whether each channel of a convolution has filters of its own."""
    x = node.inputs[0]
    assert x is not None
    return op.groups == x.type.dims[1] > 1


def pair(values: Sequence[int], fill: int) -> tuple[int, int]:
    """Of both axes; one axis becomes the width."""
    return (fill, values[0]) if len(values) == 1 else (values[0], values[1])

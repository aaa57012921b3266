"""How long a square array of multipliers takes for a layer (S. Williams et al., Roofline, 2009, with an array that
wastes what channels do not fill)."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from compiler.graph import Node
from compiler.ops.conv import Conv
from compiler.ops.matmul import Dense


class Array(NamedTuple):
    """`width` multipliers in each row and column; a layer whose channels do not fill rows and columns runs at the part
    `unaligned` of the rate, beside what idles."""

    width: int
    unaligned: float = 1.0

    def filled(self, count: int) -> int:
        """The multiple of the width that holds so many channels."""
        return -(-count // self.width) * self.width


class Machine(NamedTuple):
    """An array, its multiply-accumulates per second, and bytes per second to and from the memory around it."""

    array: Array
    macs: float
    bandwidth: float

    def seconds(self, node: Node, channels: int, filters: int) -> float:
        """A lower bound for a convolution of so many channels and filters, of 8-bit integers."""
        x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
        assert x is not None and w is not None
        taps = prod(w.type.dims[2:])
        pixels, results = x.type.size // x.type.dims[1], y.type.size // y.type.dims[1]
        depthwise = is_depthwise(node)
        work = results * taps * self.array.filled(filters) * (1 if depthwise else self.array.filled(channels))
        aligned = not (channels % self.array.width or filters % self.array.width)
        moved = pixels * channels + results * filters + taps * filters * (1 if depthwise else channels)
        return max(work / (self.macs * (1 if aligned else self.array.unaligned)), moved / self.bandwidth)


def is_depthwise(node: Node) -> bool:
    """Whether a layer is a convolution of each channel for itself, with one filter for each."""
    w = node.inputs[1] if len(node.inputs) > 1 else None
    return isinstance(node.op, Conv) and w is not None and node.op.groups == w.type.dims[0] and w.type.dims[1] == 1


def macs_through(node: Node, array: Array) -> int:
    """Multiply-accumulates for which the array is busy, those that idle included; those of other layers as they are."""
    w = node.inputs[1] if len(node.inputs) > 1 else None
    if w is None or not isinstance(node.op, Conv | Dense) or is_depthwise(node):
        return node.macs
    rows, columns = w.type.dims[:2]
    useful = rows * columns
    return node.macs * array.filled(rows) * array.filled(columns) // useful

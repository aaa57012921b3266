"""Windows that slide over the rows and columns of an NHWC tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.kernel import Node

SAME = 0


class Window(NamedTuple):
    """Rows and columns of each."""

    size: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    same: bool

    @classmethod
    def of(cls, node: Node, size: tuple[int, ...]) -> Window:
        """The window of an operator's options."""
        strides = node.option("StrideH", 1), node.option("StrideW", 1)
        dilations = node.option("DilationHFactor", 1), node.option("DilationWFactor", 1)
        return cls((size[0], size[1]), strides, dilations, node.option("Padding", SAME) == SAME)

    def outputs(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """How many windows there are along each axis."""
        if self.same:
            return tuple(-(-n // s) for n, s in zip(sizes, self.strides, strict=True))
        return tuple((n - e) // s + 1 for n, e, s in zip(sizes, self._extents(), self.strides, strict=True))

    def padding(self, sizes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Before and after, along each axis."""
        axes = zip(sizes, self.outputs(sizes), self._extents(), self.strides, strict=True)
        totals = [max(0, (out - 1) * s + e - n) if self.same else 0 for n, out, e, s in axes]
        return tuple((t // 2, t - t // 2) for t in totals)

    def _extents(self) -> tuple[int, ...]:
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilations, strict=True))


def windows(x: Array, window: Window, fill: int) -> Iterator[tuple[tuple[int, int], Array]]:
    """For each place in the window, the elements that all windows have there: (N, rows, columns, C); the padding
    holds `fill`."""
    rows, columns = window.outputs(x.shape[1:3])
    padding = window.padding(x.shape[1:3])
    if any(map(any, padding)):
        x = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    (down, right), (tall, wide) = window.strides, window.dilations
    for i in range(window.size[0]):
        for j in range(window.size[1]):
            row, column = i * tall, j * wide
            ends = row + (rows - 1) * down + 1, column + (columns - 1) * right + 1
            yield (i, j), x[:, row : ends[0] : down, column : ends[1] : right]

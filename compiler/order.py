"""Copies of arrays in row-major order, fast for transposed matrices."""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array

LINE = 64  # bytes of a cache line
SMALL = 1 << 14  # elements below which there is nothing to gain


def in_order(array: Array) -> Array:
    """The array if its elements lie in row-major order, or else a copy in which they do.

    A transposed matrix is copied in strips whose width in the copy is a cache line: every line is written whole, and
    the original is read in order. numpy goes row by row through the copy and touches a line of the original for each
    element.
    """
    if array.flags.c_contiguous or array.size < SMALL:
        return np.ascontiguousarray(array).reshape(array.shape)
    matrix = np.squeeze(array)
    if matrix.ndim != 2 or matrix.strides[1] <= matrix.strides[0]:
        return np.ascontiguousarray(array)
    copy = np.empty(matrix.shape, array.dtype)
    width = max(1, LINE // array.itemsize)
    for start in range(0, matrix.shape[1], width):
        copy[:, start : start + width] = matrix[:, start : start + width]
    return copy.reshape(array.shape)

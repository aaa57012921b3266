"""Fourier transforms as products with constant matrices, and of frames as a convolution with them."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node
from targets.coreml.lower.lowering import Lowering, Operands
from targets.coreml.lower.table import FLOAT, lowers, makes, op_need

LONGEST = 2048  # of a transform; its matrix has 16 million elements
SHORT = op_need(
    f"a length of at most {LONGEST} (longer transforms belong before the model)", lambda op: op.length <= LONGEST
)


def _matrix_bytes(node: Node) -> int:
    """Of the matrix and the unit vectors it is made of: the operand may be longer than the transform."""
    (x,), op = node.input_types, node.op
    assert x is not None and isinstance(op, ops.DFT)
    rows, columns = (t.dims[op.axis] * t.dims[-1] for t in (x, node.output.type))
    return 4 * rows * max(rows, columns)


@lowers(ops.DFT, needs=[FLOAT, SHORT, makes(_matrix_bytes)])
def _dft(p: Lowering, node: Node, op: ops.DFT) -> None:
    """The transform is linear in the numbers along its axis and their two parts: one matrix, made of what the
    operation gives for unit vectors, on both as one axis."""
    (x,) = p.operands(node)
    rank, (length, parts) = len(x.shape), (x.shape[op.axis], x.shape[-1])
    units = np.eye(length * parts).reshape(length * parts, length, parts)
    matrix = op.with_(axis=1).evaluate(units)
    others = [i for i in range(rank - 1) if i != op.axis]
    rows = p.transpose(x, [*others, op.axis, rank - 1])
    flat = p.reshape(rows, (prod(rows.shape[:-2]), length * parts))
    y = p.matmul(flat, p.floats(matrix.reshape(length * parts, -1), "transform"))
    order = [*others, op.axis, rank - 1]
    moved = p.reshape(y, [node.output.type.dims[i] for i in order])
    p.bind(node.output, p.transpose(moved, [order.index(i) for i in range(rank)]))


@lowers(ops.STFT, needs=[FLOAT, SHORT])
def _stft(p: Lowering, node: Node, op: ops.STFT) -> None:
    """Filters that are the rows of the transform's matrix, times the window, sliding by `step`."""
    x, *window = p.operands(node)
    batch, _, parts = x.shape
    units = np.eye(op.length * parts).reshape(op.length * parts, op.length, parts)
    spectra = ops.DFT(axis=1, length=op.length, onesided=op.onesided).evaluate(units)
    filters = spectra.reshape(op.length, parts, -1).transpose(2, 1, 0)
    weight = p.floats(filters, "transform")
    if window:
        given = window[0].value
        fixed = isinstance(given, np.ndarray)
        weight = p.floats(filters * given, "transform") if fixed else p.binary("mul", weight, window[0])
    _, frames, bins, _ = node.output.type.dims
    operands: Operands = {
        "x": p.transpose(x, [0, 2, 1]),
        "weight": weight,
        "strides": [op.step],
        "pad_type": "valid",
    }
    y = p.add("conv", operands, x.dtype, (batch, bins * 2, frames))
    p.bind(node.output, p.reshape(p.transpose(y, [0, 2, 1]), node.output.type.dims))

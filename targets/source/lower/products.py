"""Operands of products, as every target reads them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.target import dtypes
from compiler.tensor import BF16, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, Array

NUMBERS = dtypes(F16, BF16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64)


def operands(node: Node) -> tuple[Value, Value, Value | None]:
    """Of a product: two matrices, and biases if there are any."""
    x, w, b = (*node.inputs, None)[:3]
    assert x is not None and w is not None
    return x, w, b


class Matrices(NamedTuple):
    """Operands of a product [*batch, m, k] by [*batch, k, n]: elements from one matrix to the next along each axis of
    the batch, then between rows and columns."""

    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    x_steps: tuple[int, ...]
    y_steps: tuple[int, ...]
    x: tuple[int, int]
    y: tuple[int, int]


def matrices(x: Sequence[int], y: Sequence[int]) -> Matrices:
    """Of numpy.matmul for dense operands of these shapes. Matrices of x that lie one below the other and share y become
    one."""
    x = (1, *x) if len(x) == 1 else tuple(x)
    y = (*y, 1) if len(y) == 1 else tuple(y)
    rank = max(len(x), len(y))
    a, b = ((1,) * (rank - len(s)) + tuple(s) for s in (x, y))
    m, k, n = a[-2], a[-1], b[-1]
    batch = [max(p, q) if p and q else 0 for p, q in zip(a[:-2], b[:-2], strict=True)]
    x_steps, y_steps = _steps(a), _steps(b)
    while batch and not y_steps[-1] and (x_steps[-1] or batch[-1] == 1):
        m *= batch.pop()
        x_steps.pop()
        y_steps.pop()
    return Matrices(tuple(batch), m, n, k, tuple(x_steps), tuple(y_steps), (k, 1), (n, 1))


def _steps(shape: Sequence[int]) -> list[int]:
    """Elements from one matrix to the next along each leading axis; 0 along those that are repeated."""
    return [prod(shape[axis + 1 :]) if size != 1 else 0 for axis, size in enumerate(shape[:-2])]


def dense_matrices(node: Node, op: ops.Dense) -> Matrices:
    """Of a dense layer whose weights are known at run time."""
    x, w, _ = operands(node)
    k, n = w.type.dims[::-1] if op.transposed else w.type.dims
    return Matrices((), prod(x.type.dims[:-1]), n, k, (), (), (k, 1), (1, k) if op.transposed else (n, 1))


def bias_of(bias: Value | Array | None, n: int) -> Array:
    """Its data, or zeros."""
    if isinstance(bias, np.ndarray):
        return bias
    return np.zeros(n, np.float32) if bias is None or bias.data is None else np.asarray(bias.data).reshape(-1)

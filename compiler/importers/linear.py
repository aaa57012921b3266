"""Gemm, as a dense layer where it is one."""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.importers.shape import operand
from compiler.op import OnnxNode, broadcast, expect
from compiler.ops.elementwise import Add, Mul
from compiler.ops.matmul import Dense, MatMul
from compiler.ops.shape import Transpose
from compiler.tensor import Array, Dim


@importer("Gemm")
def gemm(node: OnnxNode, b: LayerBuilder) -> Value:
    """A Dense layer if y is constant (with c, if that is one number per column), else separate layers. Factors other
    than 1 go into copies of the constants."""
    x, y = operand(node, 0), operand(node, 1)
    expect(x.type.rank == 2 and y.type.rank == 2, f"needs two matrices, got {x.type} and {y.type}")
    if node.attr("transA", 0):
        x = b.add(Transpose(perm=(1, 0)), x)
    alpha, transposed = node.attr("alpha", 1.0), bool(node.attr("transB", 0))
    rows, columns = x.type.shape[0], y.type.shape[0 if transposed else 1]
    c = _scaled(b, operand(node, 2), node.attr("beta", 1.0)) if node.has(2) else None
    if c is not None:
        fits = broadcast(c.type.shape, (rows, columns)) == (rows, columns)
        expect(fits, f"the bias {c.type} does not broadcast to [{rows},{columns}]")
    if y.data is not None:
        bias = None if c is None or c.data is None else _row(b, c, columns)
        product = b.add(Dense(transposed=transposed), x, _scaled(b, y, alpha), bias)
        return product if c is None or bias is not None else b.add(Add(), product, c)
    y = b.add(Transpose(perm=(1, 0)), y) if transposed else y
    product = _scaled(b, b.add(MatMul(), x, y), alpha)
    return product if c is None else b.add(Add(), product, c)


def _scaled(b: LayerBuilder, v: Value, factor: float) -> Value:
    if factor == 1:
        return v
    if v.data is None:
        return b.add(Mul(), v, b.const(factor, like=v))
    return b.graph.const((v.data * factor).astype(v.data.dtype), v.name, v.origin)


def _row(b: LayerBuilder, c: Value, columns: Dim) -> Value | None:
    """A constant as a vector of one number per column; None if its rows differ."""
    data: Array | None = c.data
    assert data is not None
    if data.shape == (columns,):
        return c
    if not isinstance(columns, int) or (data.ndim == 2 and data.shape[0] != 1):
        return None
    return b.graph.const(np.ascontiguousarray(np.broadcast_to(data.reshape(-1), (columns,))), c.name, c.origin)

"""Inverse roots of sums of squares: (s + c)^-1/2, with s a product of matrices, perhaps moved."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ops.elementwise import Add, Pow
from compiler.ops.matmul import MatMul
from compiler.ops.shape import Reshape


class Root(NamedTuple):
    """The power, what it is taken of, the sum without the constant, and the product behind the reshapes of it."""

    node: Node
    shifted: Value
    sum: Value
    constant: float
    product: Node

    def moved(self, graph: Graph, v: Value) -> Value:
        """A value of the product's shape in that of the sum."""
        return v if v.type.shape == self.sum.type.shape else then(graph, self, Reshape(shape=self.sum.type.dims), v)


def roots(graph: Graph) -> list[Root]:
    """Those of a graph, in their order."""
    found = (_root(node) for node in graph.nodes if isinstance(node.op, Pow))
    return [root for root in found if root is not None]


def then(graph: Graph, root: Root, op: Op, *operands: Value | float | None) -> Value:
    """The result of a layer before the power."""
    dtype = root.shifted.type.dtype.numpy
    values = [graph.const(np.asarray(v, dtype)) if isinstance(v, float) else v for v in operands]
    return graph.add(op, *values, before=root.node, origin=root.node.origin)[0]


def _root(node: Node) -> Root | None:
    x, power = node.inputs
    if x is None or _number(power) != -0.5 or x.node is None or not isinstance(x.node.op, Add):
        return None
    total, constant = x.node.inputs
    number = _number(constant)
    source = total
    while source is not None and source.node is not None and isinstance(source.node.op, Reshape):
        source = source.node.inputs[0]
    product = None if source is None else source.node
    if total is None or number is None or number < 0 or product is None or not isinstance(product.op, MatMul):
        return None
    return Root(node, x, total, number, product)


def _number(v: Value | None) -> float | None:
    """The only element of a constant."""
    return float(v.data.item()) if v is not None and v.data is not None and v.data.size == 1 else None

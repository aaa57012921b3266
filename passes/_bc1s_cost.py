"""Estimated times of layers on an engine that computes on (B, C, H, W) tensors with padded rows."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

from compiler.graph import Node, Value
from compiler.ops.attention import Attention
from compiler.ops.conv import Conv
from compiler.ops.matmul import Dense, Einsum, MatMul
from compiler.ops.norm import TrailingNorm
from compiler.ops.parts import Concat, Slice, Split
from compiler.ops.shape import Reshape, Transpose
from compiler.ops.softmax import AxisWise
from compiler.tensor import TensorType

ELEMENT = 2  # bytes of a float on the engine


class Rates(NamedTuple):
    """What an engine does in a microsecond: multiply-accumulates of a convolution, of a dense layer (once its operand
    lies with the channels outside) and of a product of matrices; bytes of results that functions of elements,
    normalisations, transposes and concatenations give, bytes of weights that it reads, and bytes that a convolution
    reads and gives. No layer takes less than `layer` microseconds; rows are padded to `row` bytes."""

    conv: float
    linear: float
    matmul: float
    elementwise: float
    normal: float
    moved: float
    joined: float
    weights: float
    convolved: float
    layer: float
    row: int

    def padded(self, t: TensorType) -> int:
        """Bytes of a value whose last axis is padded."""
        *lead, last = t.dims or (1,)
        return prod(lead) * -(-last * ELEMENT // self.row) * self.row

    def size(self, values: Iterable[Value | None]) -> int:
        """Padded bytes of values that are computed."""
        return sum(self.padded(v.type) for v in values if v is not None and v.data is None)

    def time(self, node: Node) -> float:
        """Microseconds of a layer."""
        op, out = node.op, self.size(node.outputs)
        if isinstance(op, Reshape) and keeps_rows(node):
            return 0.0
        if isinstance(op, Attention):
            return self._attention(node)
        if isinstance(op, Dense):  # the engine contracts channels: it turns what lies with them inside, and back
            turned = sum(max(self.layer, n / self.moved) for n in (self.size(node.inputs), out))
            return max(self.layer, self._product(node, self.linear)) + turned
        if isinstance(op, Conv):
            read = self.size(node.inputs)
            return max(self.layer, self._product(node, self.conv), (read + out) / self.convolved)
        if isinstance(op, MatMul | Einsum):
            return max(self.layer, self._product(node, self.matmul))
        rate = self.elementwise
        if isinstance(op, TrailingNorm | AxisWise):
            rate = self.normal
        elif isinstance(op, Transpose | Reshape):
            rate = self.moved
        elif isinstance(op, Split | Concat | Slice):
            rate = self.joined
        return max(self.layer, out / rate)

    def _product(self, node: Node, rate: float) -> float:
        weights = sum(v.type.size * ELEMENT for v in node.inputs if v is not None and v.data is not None)
        return max(node.macs / rate, weights / self.weights)

    def _attention(self, node: Node) -> float:
        """A factor on the queries, two products, a softmax, and what masks and a softcap do to all scores."""
        q, k, v, *mask = node.inputs
        op = node.op
        assert isinstance(op, Attention) and q is not None and k is not None and v is not None
        scores = self.padded(q.type.with_shape((*q.type.dims[:3], k.type.dims[2])))
        computed = bool(mask and mask[0] is not None and mask[0].data is None)
        each = bool(mask or op.causal) + computed + 3 * (op.softcap > 0)
        repeated = (q.type.dims[1] > k.type.dims[1]) * 2 * (max(self.layer, self.padded(q.type) / self.joined))
        products = 2 * max(self.layer, node.macs / 2 / self.matmul)
        factor = max(self.layer, self.padded(q.type) / self.elementwise)
        functions = each * max(self.layer, scores / self.elementwise) + max(self.layer, scores / self.normal)
        return products + factor + functions + repeated


def keeps_rows(node: Node) -> bool:
    """Whether the operand and the result of a layer have the same innermost axis."""
    x = node.inputs[0]
    return x is not None and x.type.shape[-1:] == node.outputs[0].type.shape[-1:]

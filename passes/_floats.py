"""Layers of small integers in floats: which of them can, and what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ranges import Interval, Ranges
from compiler.rewrite import Builder
from compiler.tensor import BOOL, F32, I32, I64, DType

INTEGERS = (I32, I64)
COMPUTED: tuple[type[Op], ...] = (
    ops.Add, ops.Sub, ops.Mul, ops.Neg, ops.Abs, ops.Sign, ops.Min, ops.Max, ops.Clip, ops.Where, ops.Concat,
    ops.Reshape, ops.Transpose, ops.Slice, ops.Split, ops.Expand, ops.Tile, ops.ReduceSum, ops.ReduceMax, ops.ReduceMin,
    ops.CumSum, ops.Equal, ops.Less, ops.LessOrEqual, ops.Greater, ops.GreaterOrEqual, ops.Cast,
)  # fmt: skip


class Floats:
    """What is known as floats of the integers of a graph. `chosen` are the layers that are computed so: all their
    integers come from booleans, none is larger than floats count, and they lead to floats or comparisons."""

    def __init__(self, graph: Graph, most: int) -> None:
        self._graph = graph
        self._ranges = Ranges(graph)
        self._exact = Interval(-most, most)
        self.twins: dict[Value, Value] = {}
        able: dict[Node, None] = {}
        for node in graph.nodes:
            if isinstance(node.op, COMPUTED) and self._can(node, able):
                able[node] = None
        self.chosen: set[Node] = set()
        for node in reversed(able):
            if any(v.type.dtype not in INTEGERS or not self.chosen.isdisjoint(v.users) for v in node.outputs):
                self.chosen.add(node)

    def _can(self, node: Node, able: Mapping[Node, None]) -> bool:
        given = [v for v in node.inputs if v is not None and v.type.dtype in INTEGERS]
        computed = [v for v in given if v.data is None]
        if not all(map(self._counts, (*given, *(v for v in node.outputs if v.type.dtype in INTEGERS)))):
            return False
        if isinstance(node.op, ops.Cast) and not given:
            x = node.inputs[0]
            return x is not None and x.type.dtype is BOOL and node.output.type.dtype in INTEGERS
        if isinstance(node.op, ops.Cast) and not _is_told(node.output.type.dtype):
            return False
        return bool(computed) and all(v.node in able for v in computed)

    def _counts(self, v: Value) -> bool:
        interval = self._ranges[v]
        return interval is not None and self._exact.holds(interval)

    def layer(self, node: Node, b: Builder) -> Sequence[Value]:
        """The results of a chosen layer, computed in floats."""
        if isinstance(node.op, ops.Cast):
            new: Sequence[Value] = (self._cast(node, node.op, b),)
        else:
            operands = [self._twin(v) if v is not None and v.type.dtype in INTEGERS else v for v in node.inputs]
            new = b.add_many(node.op, *operands)
        self.twins.update(zip(node.outputs, new, strict=True))
        return new

    def _cast(self, node: Node, op: ops.Cast, b: Builder) -> Value:
        (x,) = node.inputs
        assert x is not None
        to = node.output.type.dtype
        if x.type.dtype is BOOL:
            return b.add(ops.Cast(to=F32.name), x)
        return self._twin(x) if to in INTEGERS or to is F32 else b.add(op, self._twin(x))

    def _twin(self, v: Value) -> Value:
        if v not in self.twins:
            assert v.data is not None
            self.twins[v] = self._graph.const(v.data.astype(np.float32), v.name, v.origin)
        return self.twins[v]


def _is_told(dtype: DType) -> bool:
    """Whether what a layer of floats can tell becomes this type by a cast."""
    return dtype in INTEGERS or dtype.is_float or dtype is BOOL

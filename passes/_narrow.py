"""Layers in i32 in place of i64: which of them can, what they read, and what reads them."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.errors import ShapeError
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ranges import Interval, Ranges
from compiler.rewrite import Builder
from compiler.tensor import I32, I64

FITS = Interval(-(1 << 31), (1 << 31) - 1)
MADE_WIDE = (ops.ArgMax, ops.ArgMin, ops.TopK, ops.ShapeOf, ops.SizeOf, ops.NonZero)  # whose indices are always i64
SLOW_WIDE = (ops.Div, ops.Pow, ops.ReduceMean, ops.BitShift, ops.BitwiseAnd, ops.BitwiseOr, ops.BitwiseXor)
NARROWED: tuple[type[Op], ...] = (
    *SLOW_WIDE, ops.Add, ops.Sub, ops.Mul, ops.Mod, ops.Neg, ops.Abs, ops.Sign, ops.Min, ops.Max, ops.Clip, ops.Where,
    ops.Concat, ops.Reshape, ops.Transpose, ops.Slice, ops.Gather, ops.GatherElements, ops.Expand, ops.Tile, ops.Split,
    ops.ReduceSum, ops.ReduceMax, ops.ReduceMin, ops.CumSum, ops.Equal, ops.Less, ops.LessOrEqual, ops.Greater,
    ops.GreaterOrEqual, ops.Cast, ops.OneHot, ops.Trilu,
)  # fmt: skip


class Narrowing:
    """What is known in 32 bits of the values of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._ranges = Ranges(graph)
        self._twins: dict[Value, Value] = {}

    def layer(self, node: Node, b: Builder) -> list[Value] | None:
        """Results to take the place of those of a layer, computed in i32; None if it stays."""
        wide = [v for v in (*node.inputs, *node.outputs) if v is not None and v.type.dtype is I64]
        is_seam = isinstance(node.op, ops.Cast) and node.output.type.dtype in (I32, I64)
        if is_seam or not wide or not all(self._fits(v) for v in wide):
            return None
        operands = self._operands(node, b)
        if operands is None:
            return None
        try:
            results = b.add_many(node.op, *operands)
        except ShapeError:
            return None
        return [self._widened(b, new, old) for new, old in zip(results, node.outputs, strict=True)]

    def _fits(self, v: Value) -> bool:
        interval = self._ranges[v]
        return interval is not None and FITS.holds(interval)

    def _operands(self, node: Node, b: Builder) -> list[Value | None] | None:
        """The operands in 32 bits. None if one of them would have to be converted for that; but a layer that has no
        kernel for 64 bits is worth it."""
        given = [v for v in node.inputs if v is not None and v.type.dtype is I64]
        if not isinstance(node.op, SLOW_WIDE) and not all(self._is_narrow(v) for v in given):
            return None
        return [self._narrowed(v, b) if v is not None and v.type.dtype is I64 else v for v in node.inputs]

    def _is_narrow(self, v: Value) -> bool:
        source = v.node
        if v.data is not None or v in self._twins:
            return True
        if source is not None and isinstance(source.op, ops.Cast):
            x = source.input_types[0]
            return x is not None and not x.dtype.is_float
        return source is not None and isinstance(source.op, MADE_WIDE)

    def _narrowed(self, v: Value, b: Builder) -> Value:
        twin = self._twins.get(v)
        if twin is None or (twin.node is not None and twin.node.is_erased):
            if v.data is not None:
                twin = self._graph.const(v.data.astype(np.int32), v.name, v.origin)
            else:
                twin = b.add(ops.Cast(to="i32"), v)
            self._twins[v] = twin
        return twin

    def _widened(self, b: Builder, new: Value, old: Value) -> Value:
        if new.type == old.type:
            return new
        assert new.type.dtype is I32
        wide = b.add(ops.Cast(to="i64"), new)
        self._twins[wide] = new
        self._ranges.copy(old, wide)
        return wide

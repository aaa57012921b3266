"""Removes channels from a graph: layers again with smaller constants, in front of those that they take the place of."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.tensor import Array
from passes._fitted import data_of
from passes._prune_units import Cut, Units, varied


class Removal:
    """Builds the layers without the numbers that `gone` marks, a whole set of classes that leaves something of each
    value.

    made   new layers, by the old ones
    ends   results that are as they were but for rounding, and what takes their place
    """

    def __init__(self, graph: Graph, u: Units, gone: Array) -> None:
        self.graph = graph
        self.u = u
        self.gone = gone
        self.made: dict[Node, Node] = {}
        self.ends: list[tuple[Value, Value]] = []
        self._values: dict[Value, Value] = {}
        self._apart: set[Node] = set()
        self._shared: dict[tuple[int, int, bytes], tuple[Array, Array]] = {}
        for node in list(graph.nodes):
            if node in self._apart:
                continue
            if node in u.shuffles and not self._is_even(node):
                turn, last = u.shuffles[node]
                self._apart |= {turn, last, node}
                self._gather(node, last)
            elif self._changes(node):
                self._again(node)

    def _is_even(self, first: Node) -> bool:
        """Whether a shuffle loses whole rows or columns of what it transposes."""
        ids = self.u.of.get(first.output)
        return ids is None or len(varied(self._collapsed(ids))) < 2

    def _collapsed(self, ids: Array) -> Array:
        mask = self.gone[ids]
        for axis in range(mask.ndim):
            first = mask.take([0], axis)
            mask = first if bool((mask == first).all()) else mask
        return mask

    def kept(self, ids: Array, axis: int) -> Array:
        """The places along an axis at which something is left."""
        others = tuple(i for i in range(ids.ndim) if i != axis)
        return np.flatnonzero(~self.gone[ids].all(others))

    def _shrinks(self, v: Value | None) -> bool:
        return v is not None and v in self.u.of and bool(self.gone[self.u.of[v]].any())

    def _changes(self, node: Node) -> bool:
        return any(self._shrinks(v) for v in (*node.inputs, *node.outputs)) or any(
            bool(self.gone[c.ids].any()) for c in self.u.cuts.get(node, ())
        )

    def _operand(self, v: Value | None) -> Value | None:
        return None if v is None else self._values.get(v, v)

    def _again(self, node: Node) -> None:
        operands = [self._operand(v) for v in node.inputs]
        data: dict[int, Array] = {}
        for c in self.u.cuts.get(node, ()):
            data[c.operand] = self._taken(data.get(c.operand, data_of(node.inputs[c.operand])), c)
        if node in self.u.groups:
            data |= self._grouped(node)
        op = self._op(node, data)
        for i, array in data.items():
            old = node.inputs[i]
            assert old is not None
            operands[i] = self.graph.const(array, old.name, old.origin)
        self._add(node, op, operands)

    def _taken(self, array: Array, cut: Cut) -> Array:
        """A constant without what a cut takes; layers that shared it share what is left if they lose the same."""
        kept = self.kept(cut.ids, cut.along)
        if len(kept) == cut.ids.shape[cut.along]:
            return array
        key = id(array), cut.axis, kept.tobytes()
        if key not in self._shared:
            made = np.ascontiguousarray(array.take(kept, cut.axis))
            made.flags.writeable = False
            self._shared[key] = array, made
        return self._shared[key][1]

    def _add(self, node: Node, op: Op, operands: Sequence[Value | None]) -> None:
        names = [v.name for v in node.outputs]
        results = self.graph.add(op, *operands, before=node, origin=node.origin, names=names)
        assert results[0].node is not None
        self.made[node] = results[0].node
        for old, new in zip(node.outputs, results, strict=True):
            self._values[old] = new
            if not self._shrinks(old):
                self.ends.append((old, new))

    def _gather(self, first: Node, last: Node) -> None:
        """A shuffle of which something between rows and columns is left, as an index."""
        x = first.inputs[0]
        assert x is not None
        (axis,) = varied(self.u.of[x])
        kept = self.kept(self.u.of[x], axis)
        grid = np.arange(self.u.of[x].size).reshape(first.output.type.shape[axis], -1)  # type: ignore[arg-type]  # a bound size
        order = grid.T.reshape(-1)
        wanted = np.searchsorted(kept, order[np.isin(order, kept)])
        self._add(last, ops.Gather(axis=axis), [self._operand(x), self.graph.const(wanted)])

    def _grouped(self, node: Node) -> dict[int, Array]:
        """The weight and bias of a convolution whose groups lose as many channels each."""
        read, made = self.u.groups[node]
        w = data_of(node.inputs[1])
        rows = w.reshape(len(made), made.shape[1], *w.shape[1:])
        parts = []
        for g, filters in enumerate(rows):
            left = filters[~self.gone[made[g]]]
            parts.append(left if read is None else left[:, ~self.gone[read[g]]])
        data = {1: np.concatenate(parts)}
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            data[2] = data_of(node.inputs[2])[~self.gone[made.reshape(-1)]]
        return data

    def _op(self, node: Node, data: dict[int, Array]) -> Op:
        """The operation on what is left; constants of `data` may change with it."""
        op: Any = node.op  # the class says which fields there are
        ids = None if node.inputs[0] is None else self.u.of.get(node.inputs[0])
        result = self.u.of.get(node.outputs[0])
        if isinstance(op, ops.Conv | ops.ConvTranspose | ops.GroupNorm) and op.groups > 1 and node not in self.u.groups:
            if result is not None:
                each = node.output.type.dims[1] // op.groups
                return op.with_(groups=len(self.kept(result, 1)) // each)
        elif isinstance(op, ops.Reshape | ops.Expand) and result is not None:
            return op.with_(shape=self._dims(op.shape, result))
        elif isinstance(op, ops.Resize) and result is not None:
            return op.with_(sizes=self._dims(op.sizes, result))
        elif isinstance(op, ops.Split) and ids is not None and ids.shape[op.axis] > 1:
            parts = np.split(ids, np.cumsum(op.sizes)[:-1], op.axis)
            return op.with_(sizes=tuple(len(self.kept(p, op.axis)) for p in parts))
        elif isinstance(op, ops.Slice) and ids is not None:
            return self._slice(op, ids)
        elif isinstance(op, ops.Gather) and ids is not None and ids.shape[op.axis] > 1:
            data[1] = self._indices(node, op, ids)
        elif isinstance(op, ops.RmsNorm) and ids is not None and ids.shape[-1] > 1:
            ratio = ids.shape[-1] / len(self.kept(ids, ids.ndim - 1))
            scale = data.get(1, data_of(node.inputs[1]))
            data[1] = (scale * sqrt(ratio)).astype(scale.dtype)
            return op.with_(eps=op.eps * ratio)
        return node.op

    def _dims(self, shape: tuple[Any, ...], ids: Array) -> tuple[Any, ...]:
        return tuple(len(self.kept(ids, i)) if ids.shape[i] > 1 else d for i, d in enumerate(shape))

    def _slice(self, op: ops.Slice, ids: Array) -> Op:
        starts, ends = list(op.starts), list(op.ends)
        for axis in varied(ids):
            kept = self.kept(ids, axis)
            starts[axis], ends[axis] = (int(np.searchsorted(kept, at)) for at in (op.starts[axis], op.ends[axis]))
        return op.with_(starts=tuple(starts), ends=tuple(ends))

    def _indices(self, node: Node, op: ops.Gather, ids: Array) -> Array:
        kept = self.kept(ids, op.axis)
        at = data_of(node.inputs[1])
        at = np.where(at < 0, at + ids.shape[op.axis], at)
        return np.searchsorted(kept, at[np.isin(at, kept)]).astype(at.dtype)

"""Values that are read where others lie: parts and transposes of them, by distances along axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from codegen.program import Pointer
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import ConvertLayout, order_of
from compiler.tensor import Array
from targets.source.lower.moving import at_element
from targets.source.program import Program

MOVES = (ops.Transpose, ops.Reshape, ops.Split, ops.Slice, ops.Gather, ConvertLayout)


class Lying(NamedTuple):
    """Where a value can be read: in another one, from an element on, at distances along each axis in elements."""

    root: Value
    first: int
    strides: tuple[int, ...]

    def at(self, p: Program) -> Pointer:
        """Its first element."""
        return at_element(p.at(self.root), self.first, self.root.type.dtype)


def lying(v: Value, is_known: Callable[[Value], bool] = lambda _: True, *, in_rows: bool = True) -> Lying:
    """Where a value lies if layers that only move elements are not computed, as far back as there is a value that
    `is_known`, and as its last axis stays the innermost one if it is to be read `in_rows`."""
    path: list[Node] = []
    best = _through(v, path)
    assert best is not None
    root = v
    while (node := root.node) is not None and isinstance(node.op, MOVES):
        source = node.inputs[0]
        if source is None or source.data is not None or not source.type.size:
            break
        path.insert(0, node)
        root = source
        found = _through(v, path)
        if found is None:
            break
        if is_known(root) and (not in_rows or found.strides[-1] == 1):
            best = found
    return best


def _through(v: Value, path: list[Node]) -> Lying | None:
    """What lies at the end of a path of layers; None if elements do not stay where they are."""
    root = path[0].inputs[0] if path else v
    assert root is not None
    order = order_of(root.type)
    array = np.empty([root.type.dims[a] for a in order], np.int8).transpose(np.argsort(order))
    begin = _address(array)
    results = [*(n.inputs[0] for n in path[1:]), v]
    for node, result in zip(path, results, strict=False):
        assert result is not None
        moved = _moved(array, node, result)
        if moved is None or not np.may_share_memory(moved, array):
            return None
        array = moved
    return Lying(root, _address(array) - begin, array.strides)


def gathered(node: Node) -> slice | None:
    """The positions that a Gather reads, if they are constant and rise by as much from each to the next."""
    x, indices = node.inputs[:2]
    op = node.op
    assert isinstance(op, ops.Gather) and x is not None and indices is not None
    if indices.data is None or not indices.type.size:
        return None
    size = x.type.dims[op.axis]
    places = [int(i) + size * (i < 0) for i in np.asarray(indices.data).reshape(-1)]
    step = places[1] - places[0] if len(places) > 1 else 1
    rising = step > 0 and places == list(range(places[0], places[0] + len(places) * step, step))
    return slice(places[0], places[-1] + 1, step) if rising and places[0] >= 0 and places[-1] < size else None


def _address(a: Array) -> int:
    address: int = a.__array_interface__["data"][0]
    return address


def _moved(a: Array, node: Node, result: Value) -> Array | None:
    """What this result of a layer is of its operand."""
    op = node.op
    if isinstance(op, ConvertLayout):
        return a
    if isinstance(op, ops.Transpose):
        return a.transpose(op.perm)
    if isinstance(op, ops.Slice):
        ranges = zip(op.starts, op.steps, result.type.dims, strict=True)
        return a[tuple(slice(s, s + d * n, d) for s, d, n in ranges)] if min(op.steps, default=1) > 0 else None
    if isinstance(op, ops.Gather):
        part = gathered(node)
        return None if part is None else a[(slice(None),) * op.axis + (part,)].reshape(result.type.dims)
    if isinstance(op, ops.Split):
        at = node.outputs.index(result)
        begin = sum(op.sizes[:at])
        return a[(slice(None),) * op.axis + (slice(begin, begin + op.sizes[at]),)]
    return a.reshape(result.type.dims)

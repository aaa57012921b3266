"""Values that are written right where the layers behind them would move them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codegen.program import Pointer
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import ConvertLayout, order_of
from compiler.tensor import Array
from targets.source.lower.flatten import is_absorbed
from targets.source.lower.moving import at_element
from targets.source.program import Program

PLACES = (ops.Transpose, ops.Concat, ConvertLayout)  # layers that give a value another place


class Home(NamedTuple):
    """Where a value is wanted: in another one, from an element on, at distances along each of its axes in elements;
    and the values on the way, which then lie nowhere else."""

    root: Value
    first: int
    strides: tuple[int, ...]
    inner: tuple[Value, ...]

    def at(self, p: Program) -> Pointer:
        """Its first element."""
        place = p.at(self.root) if p.is_placed(self.root) else p.result(self.root)
        return at_element(place, self.first, self.root.type.dtype)


def home_of(v: Value, reader: Node | None = None, index: int = -1) -> Home | None:
    """Where a value is wanted; None if that is where it would lie anyway. `reader`: a layer that moves its elements,
    which others may read too, as its operand `index`."""
    path = _path(v, reader or _reader(v), index)
    return _behind(path) if path else None


Steps = list[tuple[Node, int]]  # layers that move elements, and which operand of theirs it is


def _path(v: Value, reader: Node | None, index: int = -1) -> Steps:
    """The layers up to the one in whose result a value is to be written; none if there are no such. All parts of a
    Concat go to the same value."""
    path: Steps = []
    best: Steps = []
    value, node = v, reader
    while node is not None:
        path = [*path, (node, node.inputs.index(value) if index < 0 or path else index)]
        value = node.output
        if isinstance(node.op, ops.Concat):
            whole = path + _path(value, _reader(value))
            return best if _behind(whole) is None else whole
        if _behind(path) is None:
            break
        if isinstance(node.op, PLACES):
            best = path
        node = _reader(value)
    return best


def _reader(v: Value) -> Node | None:
    """The layer that moves the elements of a value, if nobody else reads it."""
    node = next(iter(v.users)) if len(v.users) == 1 and not v.n_out else None
    if node is None or not isinstance(node.op, (*PLACES, ops.Reshape)) or node.inputs.count(v) != 1:
        return None
    stays = isinstance(node.op, ConvertLayout) and is_absorbed(node)
    return node if v.type.size and v.type.is_static and not stays else None


def _behind(path: Steps) -> Home | None:
    """Where a value is in the result of the last layer of a path; None if its elements are at no fixed distances."""
    root = path[-1][0].output
    order = order_of(root.type)
    whole = np.empty([root.type.dims[a] for a in order], np.int8).transpose(np.argsort(order))
    part = whole
    for node, index in reversed(path):
        part = _operand(part, node, index)
        if not np.may_share_memory(part, whole):
            return None
    first = _address(part) - _address(whole)
    return Home(root, first, part.strides, tuple(n.output for n, _ in path[:-1]))


def _address(a: Array) -> int:
    address: int = a.__array_interface__["data"][0]
    return address


def _operand(a: Array, node: Node, index: int) -> Array:
    """What of the result of a layer one of its operands becomes."""
    op, x = node.op, node.inputs[index]
    assert x is not None
    if isinstance(op, ops.Transpose):
        return a.transpose(np.argsort(op.perm))
    if isinstance(op, ops.Concat):
        begin = sum(v.type.dims[op.axis] for v in node.inputs[:index] if v is not None)
        return a[(slice(None),) * op.axis + (slice(begin, begin + x.type.dims[op.axis]),)]
    return a if isinstance(op, ConvertLayout) else a.reshape(x.type.dims)

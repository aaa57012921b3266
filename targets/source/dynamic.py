"""Results of which the data decide how many elements there are: the most that there may be, of which buffers have
room, and which layers give such results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compiler import ops
from compiler.graph import Node, Value
from compiler.op import Op
from compiler.tensor import TensorType

Ints = tuple[int, ...]


def largest(v: Value) -> TensorType:
    """The type of a value of which each size is known, or the most that it may be."""
    if v.type.is_static or v.node is None:
        return v.type
    found = BOUNDS.get(type(v.node.op))
    return v.type if found is None else v.type.with_shape(found(v.node, v.node.op)[v.node.outputs.index(v)])


def is_dynamic(v: Value) -> bool:
    """Whether the data decide on its size, and it has a bound."""
    return not v.type.is_static and v.node is not None and type(v.node.op) in BOUNDS


def _operand(node: Node, index: int = 0) -> TensorType:
    v = node.inputs[index]
    assert v is not None
    return v.type


def _nonzero(node: Node, _: Any) -> list[Ints]:
    x = _operand(node)
    return [(x.rank, x.size)]


def _along(x: TensorType, axis: int | None, count: int) -> Ints:
    return (count,) if axis is None else (*x.dims[:axis], count, *x.dims[axis + 1 :])


def _compress(node: Node, op: ops.Compress) -> list[Ints]:
    x = _operand(node)
    length = x.size if op.axis is None else x.dims[op.axis]
    return [_along(x, op.axis, min(length, _operand(node, 1).size))]


def _unique(node: Node, op: ops.Unique) -> list[Ints]:
    x = _operand(node)
    length = x.size if op.axis is None else x.dims[op.axis]
    return [_along(x, op.axis, length), (length,), (length,), (length,)]


def _non_max_suppression(node: Node, op: ops.NonMaxSuppression) -> list[Ints]:
    images, classes, boxes = _operand(node, 1).dims
    return [(images * classes * max(min(op.limit, boxes), 0), 3)]


BOUNDS: dict[type[Op], Callable[[Node, Any], list[Ints]]] = {  # Any: the operation of its own key
    ops.NonZero: _nonzero,
    ops.Compress: _compress,
    ops.Unique: _unique,
    ops.NonMaxSuppression: _non_max_suppression,
}

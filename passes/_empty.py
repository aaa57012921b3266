"""What is known of tensors without elements, and of layers that read or compute them."""

from __future__ import annotations

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.ops.parts import Concat
from compiler.tensor import Array
from passes._constants import results_of


def is_empty(v: Value) -> bool:
    """Whether a value is known to have no elements."""
    return v.type.is_static and 0 in v.type.shape


def known(graph: Graph, node: Node) -> list[Value] | None:
    """Constants for all results, or for those without elements that somebody reads."""
    if any(v is not None and is_empty(v) for v in node.inputs) and node.op.pure:
        known = all(v is None or v.data is not None or is_empty(v) for v in node.inputs)
        results = results_of(node, [_data(v) for v in node.inputs]) if known else None
        if results is not None:
            return [graph.const(a, v.name) for a, v in zip(results, node.outputs, strict=True)]
    empty = [v for v in node.outputs if is_empty(v)]
    if not any(v.is_read for v in empty):
        return None
    return [graph.const(np.zeros(v.type.dims, v.type.dtype.numpy), v.name) for v in empty]


def _data(v: Value | None) -> Array | None:
    return None if v is None else np.zeros(v.type.dims, v.type.dtype.numpy) if v.data is None else v.data


def joined(graph: Graph, node: Node) -> list[Value] | None:
    """The concatenation of what has elements, if some has none."""
    full = [v for v in node.inputs if v is not None and not is_empty(v)]
    if not isinstance(node.op, Concat) or len(full) == len(node.inputs):
        return None
    return list(graph.add(node.op, *full, before=node, origin=node.origin))

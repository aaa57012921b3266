"""Layers that move channels and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from compiler.graph import Node, Value
from compiler.ops.index import Gather
from compiler.ops.parts import Concat, Slice, Split
from compiler.ops.shape import Reshape, Transpose
from compiler.tensor import Array


def moved(node: Node, numbers: Mapping[Value, Array]) -> list[Array] | None:
    """What a layer does to numbers of channels, which stand for the leading axes of its operands; None if it does more,
    or something to the other axes."""
    x = node.inputs[0] if node.inputs else None
    if x is None or x not in numbers or not all(v.type.is_static and v.type.size for v in node.outputs):
        return None
    op, k = node.op, numbers[x].ndim
    if isinstance(op, Split):
        return list(op.evaluate(numbers[x])) if op.axis < k else None
    if isinstance(op, Concat):
        parts = [numbers[v] for v in node.inputs if v is not None and v in numbers]
        alike = op.axis < k and [p.ndim for p in parts] == [k] * len(node.inputs)
        return [op.evaluate(*parts)] if alike else None
    found = _moved(node, x, numbers[x])
    return None if found is None else [found]


def _moved(node: Node, x: Value, numbers: Array) -> Array | None:
    op, k = node.op, numbers.ndim
    if isinstance(op, Reshape):
        return _reshaped(numbers, node.output.type.dims)
    if isinstance(op, Transpose):
        stays = op.perm[k:] == tuple(range(k, len(op.perm)))
        return numbers.transpose(op.perm[:k]) if stays else None
    if isinstance(op, Gather):
        at = node.inputs[1]
        return None if at is None or at.data is None or op.axis >= k else op.evaluate(numbers, at.data)
    if isinstance(op, Slice):
        bounds = zip(op.starts[k:], op.ends[k:], op.steps[k:], strict=True)
        whole = list(bounds) == [(0, d, 1) for d in x.type.dims[k:]]
        return op.with_(starts=op.starts[:k], ends=op.ends[:k], steps=op.steps[:k]).evaluate(numbers) if whole else None
    return None


def _reshaped(numbers: Array, dims: tuple[int, ...]) -> Array | None:
    """Under the first dimensions, as many as have that product."""
    k = next((k for k in range(len(dims), 0, -1) if prod(dims[:k]) == numbers.size), None)
    return None if k is None else np.reshape(numbers, dims[:k])

"""Which constants are trained, and how large a step of each is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.tensor import F32, Array
from passes._weight_bits import axes_of

LEAST = 0.1  # of the size of a weight: the least by which one of its filters is stepped
LEAST_BIAS = 0.01
PARAMETERS: dict[type, tuple[int, ...]] = {  # operands beside matrices and kernels
    ops.Conv: (2,),
    ops.ConvTranspose: (2,),
    ops.Dense: (2,),
    ops.LayerNorm: (1, 2),
    ops.RmsNorm: (1,),
    ops.InstanceNorm: (1, 2),
    ops.GroupNorm: (1, 2),
    ops.PRelu: (1,),
    ops.LSTM: (1, 2, 3),
    ops.GRU: (1, 2, 3),
    ops.RNN: (1, 2, 3),
}


class Weight(NamedTuple):
    """A trained constant: its value in the graph, the size of its elements, which steps are proportional to
    (broadcasts), and for a matrix or kernel with zeros where it is not 0; there it stays 0."""

    value: Value
    size: Array
    mask: Array | None


def trained_weights(graph: Graph) -> list[Weight]:
    """Kernels, matrices, tables, biases and the parameters of norms and recurrent layers, in f32 and stored as such;
    each constant once."""
    found: dict[Value, Weight] = {}
    for node in graph.nodes:
        for i, v in enumerate(node.inputs):
            if v is not None and v not in found and _is_trained(node, i, v):
                found[v] = _weight(node, i, v)
    return list(found.values())


def _is_trained(node: Node, index: int, v: Value) -> bool:
    if v.data is None or v.type.dtype is not F32 or v.type.quant is not None or v.type.palette is not None:
        return False
    if v.type.size == 0 or v.n_out or not np.isfinite(v.data).all():
        return False
    return axes_of(node, index) is not None or index in PARAMETERS.get(type(node.op), ()) or _is_bias(node, index)


def _is_bias(node: Node, index: int) -> bool:
    """Whether a vector is added to what a product of matrices gives."""
    if not isinstance(node.op, ops.Add):
        return False
    other = node.inputs[1 - index]
    return other is not None and other.node is not None and isinstance(other.node.op, ops.MatMul | ops.Dense)


def _weight(node: Node, index: int, v: Value) -> Weight:
    data, axes = np.asarray(v.data), axes_of(node, index)
    if axes is None:
        least = LEAST_BIAS if data.ndim < 2 else 0.0
        return Weight(v, np.array(max(_size(data), least), np.float32), None)
    mask = (data != 0).astype(np.float32)
    others = tuple(i for i in range(data.ndim) if i != axes.results)
    filters = np.sqrt(np.square(data).sum(others, keepdims=True) / np.maximum(mask.sum(others, keepdims=True), 1))
    return Weight(v, np.maximum(filters, LEAST * _size(data)).astype(np.float32), None if mask.all() else mask)


def _size(data: Array) -> float:
    """The root of the mean square of what is not 0."""
    kept = data[data != 0].astype(np.float64)
    return float(np.sqrt(np.square(kept).mean())) if kept.size else 0.0

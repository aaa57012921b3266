"""Operands of recurrent layers, as every target reads them."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.recurrent import Recurrent as Layer
from compiler.tensor import Array

WEIGHTS, STATES, BIASES, LENGTHS, H, C, PEEPHOLES = 1, 2, 3, 4, 5, 6, 7  # operands


def operand(node: Node, index: int) -> Value | None:
    """An operand; None if it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def has_constant_weights(node: Node) -> bool:
    """Whether weights and biases are known, and there are results."""
    given = (operand(node, i) for i in (WEIGHTS, STATES, BIASES))
    return all(v is None or v.data is not None for v in given) and all(v.type.size for v in node.outputs)


def parameters(node: Node) -> tuple[Array, Array, Array]:
    """w, r, and biases of both, zeros if there are none."""
    w, r, b = (operand(node, i) for i in (WEIGHTS, STATES, BIASES))
    assert w is not None and w.data is not None and r is not None and r.data is not None
    wide = (w.data.shape[0], 2 * w.data.shape[1])
    found = np.zeros(wide, w.data.dtype) if b is None or b.data is None else b.data
    return np.asarray(w.data), np.asarray(r.data), np.asarray(found)


def biases(op: Layer, b: Array, wide: int) -> tuple[Array, Array]:
    """Those that can be added to what is seen of the inputs, and those of a candidate that is reset after its
    product."""
    first, rest = b[:, :wide] + b[:, wide:], np.zeros_like(b[:, :wide])
    if isinstance(op, ops.GRU) and op.linear_before_reset:
        at = 2 * wide // 3
        first[:, at:] = b[:, at:wide]
        rest[:, at:] = b[:, wide + at :]
    return first, rest


def lengths(node: Node) -> Value | None:
    """How long each element of the batch is, if one may end before the last step."""
    x, lens = operand(node, 0), operand(node, LENGTHS)
    assert x is not None
    is_whole = lens is not None and lens.data is not None and bool((np.asarray(lens.data) >= x.type.dims[0]).all())
    return None if is_whole else lens

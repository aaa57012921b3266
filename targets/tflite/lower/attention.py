"""Attention and the rotary embedding of positions."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.tensor import BOOL, Array
from passes._finite import is_finite
from targets.tflite.lower.linear import product
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import FLOATS, lowers, operand_types
from targets.tflite.model import Tensor


class Mask(NamedTuple):
    """A term that is added to the scores, and a factor of the results: 0 for queries that see no key, to whose scores
    nothing is added. Attentions with the same mask share both."""

    term: Tensor | None = None
    factor: Tensor | None = None


@lowers(ops.Attention, needs=[operand_types(*FLOATS, BOOL)])
def _attention(p: Lowering, node: Node, op: ops.Attention) -> None:
    """softmax(q k^T * scale + mask) v; what sees nothing gives 0."""
    q, k, v = (p.get(x) for x in node.inputs[:3] if x is not None)
    batch, heads, queries, depth = q.shape
    shared, keys = k.shape[1:3]
    grouped = (batch, shared, heads // shared * queries, depth)
    scores = product(p, p.reshape(p.times(q, op.scale), grouped), k, adjoint=True)
    scores = p.reshape(scores, (batch, heads, queries, keys))
    if op.softcap > 0:
        scores = p.times(p.unary("TANH", p.times(scores, 1 / op.softcap)), op.softcap)
    mask = _mask(p, node.inputs[3] if len(node.inputs) > 3 else None, op.causal, (queries, keys))
    if mask.term is not None:
        scores = p.binary("ADD", scores, mask.term)
    weights = p.unary("SOFTMAX", scores, Beta=1.0)
    y = p.reshape(product(p, p.reshape(weights, (*grouped[:3], keys)), v), node.output.type.dims)
    p.finish(node, y if mask.factor is None else p.binary("MUL", y, mask.factor))


def _mask(p: Lowering, mask: Value | None, causal: bool, area: tuple[int, int]) -> Mask:
    """What a mask and the causal order do together."""
    past = np.tri(*area, dtype=np.bool_) if causal else None
    if mask is None or mask.data is not None:
        return _constant(p, None if mask is None else mask.data, past)
    key = (mask, causal, area)
    if mask.type.dtype is BOOL:
        visible = p.shared(("visible", *key), lambda: _both(p, "LOGICAL_AND", mask, past, "BOOL"))
        seen = p.shared(("seen", *key), lambda: p.reduce("REDUCE_ANY", visible, [-1]))
        term = p.shared(("term", *key), lambda: _chosen(p, visible, seen))
    else:
        late = None if past is None else np.where(past, 0.0, -inf)
        added = p.shared(("added", *key), lambda: _both(p, "ADD", mask, late, "FLOAT32"))
        if is_finite(mask):
            return Mask(added)
        lowest = p.scalar(-inf)
        seen = p.shared(("seen", *key), lambda: p.binary("NOT_EQUAL", p.reduce("REDUCE_MAX", added, [-1]), lowest))
        term = p.shared(("term", *key), lambda: p.select(seen, added, p.scalar(0.0)))
    return Mask(term, p.shared(("factor", *key), lambda: p.cast(seen, "FLOAT32")))


def _constant(p: Lowering, mask: Array | None, past: Array | None) -> Mask:
    if mask is None:
        if past is None:
            return Mask()
        term = np.zeros(past.shape)
    else:
        term = np.where(mask, 0.0, -inf) if mask.dtype.kind == "b" else mask.astype(np.float32)
    term = term if past is None else np.where(past, term, -inf)
    blind = (term == -inf).all(-1, keepdims=True)
    held = p.const(np.where(blind, 0.0, term), "FLOAT32")
    return Mask(held, p.const(~blind, "FLOAT32") if blind.any() else None)


def _both(p: Lowering, code: str, mask: Value, other: Array | None, dtype: str) -> Tensor:
    return p.get(mask) if other is None else p.binary(code, p.get(mask), p.const(other, dtype))


def _chosen(p: Lowering, visible: Tensor, seen: Tensor) -> Tensor:
    """0 where a key is visible, or no key is to the query; else -inf."""
    shown = p.binary("LOGICAL_OR", visible, p.unary("LOGICAL_NOT", seen))
    return p.select(shown, p.scalar(0.0), p.scalar(-inf))

"""Scaled dot-product attention as matrix products and softmax, which every compute unit runs."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.tensor import BOOL, Array
from passes._masks import is_finite
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.norm import softmax
from targets.coreai.lower.table import FLOATS, lowers, makes, operand_types
from targets.coreai.program import Var

HIDDEN = {"fp16": -4.0e4, "fp32": -1.0e30}  # scores of what must not be seen; finite, so that nothing is NaN


def _mask_bytes(node: Node) -> int:
    """Of the causal mask, joined with a constant one."""
    op, (q, k, _, *masks) = node.op, node.inputs
    assert isinstance(op, ops.Attention) and q is not None and k is not None
    causal = (q.type.dims[2], k.type.dims[2]) if op.causal else ()
    mask = masks[0] if masks else None
    known = mask.type.dims if mask is not None and mask.data is not None else ()
    return 4 * prod(np.broadcast_shapes(known, causal))


@lowers(ops.Attention, needs=[operand_types(*FLOATS, BOOL), makes(_mask_bytes)])
def _attention(p: Lowering, node: Node, op: ops.Attention) -> None:
    """The queries are scaled before the product, which keeps fp16 scores small. Weights of what is hidden are set to
    0 only where a query may see nothing at all: elsewhere softmax has made them 0."""
    q, k, v, *_ = p.operands(node)
    _, heads, queries, _ = q.shape
    keys = k.shape[2]
    k, v = _shared(p, k, heads), _shared(p, v, heads)
    scores = p.matmul(p.binary("mul", q, op.scale), p.swapped(k))
    if op.softcap > 0:
        scores = p.binary("mul", p.unary("tanh", p.binary("mul", scores, 1 / op.softcap)), op.softcap)
    causal = np.tri(queries, keys, dtype=bool) if op.causal else None
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    seen: Var | None = None
    if mask is not None and mask.data is not None:
        scores, seen = _known_mask(p, scores, np.asarray(mask.data), causal)
    else:
        if causal is not None:
            scores = p.binary("add", scores, _added(p, causal))
        if mask is not None:
            finite = is_finite(mask)
            added, seen = _computed_mask(p, mask, less=finite and causal is not None)
            scores = p.binary("add", scores, added)
            if finite:  # what it hides from a query that sees nothing is averaged
                seen = None
            elif causal is not None:
                seen = p.binary("and", seen, _boolean(p, causal))
    weights = softmax(p, scores, 3)
    if seen is not None:
        weights = p.select(seen, weights, 0.0)
    p.bind(node.output, p.matmul(weights, v))


def _shared(p: Lowering, x: Var, heads: int) -> Var:
    """Keys or values with every head repeated for the query heads that share it."""
    batch, shared, length, depth = x.shape
    times = heads // shared
    if times == 1:
        return x
    single = p.reshape(x, (batch, shared, 1, length * depth))
    return p.reshape(p.spread(single, (batch, shared, times, length * depth)), (batch, heads, length, depth))


def _added(p: Lowering, seen: Array) -> Var:
    """What is added to the scores so that only `seen` remains."""
    return p.floats(np.where(seen, 0.0, HIDDEN[p.precision]))


def _boolean(p: Lowering, seen: Array) -> Var:
    return p.program.const(seen, "bool")


def _known_mask(p: Lowering, scores: Var, mask: Array, causal: Array | None) -> tuple[Var, Var | None]:
    """Scores with a constant mask and the causal one in a single sum; which are seen, if a query sees none."""
    seen = mask if mask.dtype == bool else mask > -np.inf
    seen = seen if causal is None else np.logical_and(seen, causal)
    if mask.dtype == bool:
        added = _added(p, seen)
    else:
        hidden = HIDDEN[p.precision]
        added = p.floats(np.where(seen, np.maximum(mask.astype(np.float32), hidden), hidden))
    return p.binary("add", scores, added), None if seen.any(-1).all() else _boolean(p, np.ascontiguousarray(seen))


def _computed_mask(p: Lowering, mask: Value, less: bool) -> tuple[Var, Var]:
    """What is added to the scores, and what is seen; derived once for all layers that share the mask. `less`: what it
    hides is less hidden than what comes later."""
    given, hidden = p[mask], HIDDEN[p.precision]
    if ("added", mask, less) not in p.shared:
        if given.dtype == "bool":
            absent = p.binary("sub", p.cast(given, p.precision), 1.0)
            p.shared["added", mask, less] = p.binary("mul", absent, -hidden)
            p.shared["seen", mask] = given
        else:
            p.shared["added", mask, less] = p.binary("maximum", given, hidden / 2 if less else hidden)
            p.shared["seen", mask] = p.test("greater", given, hidden)
    return p.shared["added", mask, less], p.shared["seen", mask]

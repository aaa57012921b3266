"""Scaled dot-product attention as matrix products and softmax, which every compute unit runs."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.tensor import BOOL, Array
from passes._masks import is_finite
from targets.coreml.lower.lowering import Lowering
from targets.coreml.lower.table import FLOATS, lowers, makes, operand_types
from targets.coreml.mil import Var

# Scores of what must not be seen; finite, so that nothing is NaN, with room for the score that it is added to (Apple,
# Core AI model authoring rules for the Neural Engine: -40000).
HIDDEN = {"fp16": -4.0e4, "fp32": -1.0e30}


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
    heads = q.shape[1]
    k, v = _shared(p, k, heads), _shared(p, v, heads)
    mask, seen = _mask(p, node, op, (q.shape[2], k.shape[2]))
    if p.fuses_attention and op.softcap <= 0:
        p.finish(node, _fused(p, p.like(q, "mul", y=op.scale * q.shape[3] ** 0.5), k, v, mask, seen))
        return
    scores = p.matmul(p.like(q, "mul", y=op.scale), k, transpose_y=True)
    if op.softcap > 0:
        scores = p.like(p.like(p.like(scores, "mul", y=1 / op.softcap), "tanh"), "mul", y=op.softcap)
    if mask is not None:
        scores = p.like(scores, "add", y=mask)
    weights = p.like(scores, "softmax", axis=-1)
    if seen is not None:
        weights = p.select(seen, weights, 0.0, weights.dtype)
    p.emit(node, "matmul", x=weights, y=v, transpose_x=False, transpose_y=False)


def _fused(p: Lowering, q: Var, k: Var, v: Var, mask: Var | None, seen: Var | None) -> Var:
    """MIL's one operation for all, which divides scores by the root of the width; queries that see nothing give 0."""
    y = p.add(
        "scaled_dot_product_attention",
        {"query": q, "key": k, "value": v, "attn_mask": mask},
        q.dtype,
        (*q.shape[:3], v.shape[3]),
    )
    if seen is None:
        return y
    if isinstance(seen.value, np.ndarray):
        return p.select(_boolean(p, np.asarray(seen.value.any(-1, keepdims=True))), y, 0.0, y.dtype)
    some = p.reduce(p.cast(seen, q.dtype), "reduce_max", [len(seen.shape) - 1])
    return p.select(p.test("greater", some, 0.5), y, 0.0, y.dtype)


def _mask(p: Lowering, node: Node, op: ops.Attention, places: tuple[int, int]) -> tuple[Var | None, Var | None]:
    """What is added to the scores, and which are seen, if a query may see none: below a finite mask it gives the mean.
    `places`: queries, keys."""
    causal = np.tri(*places, dtype=bool) if op.causal else None
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    if mask is None:
        return (None if causal is None else _added(p, causal)), None
    if mask.data is not None:
        return _known_mask(p, np.asarray(mask.data), causal)
    finite = is_finite(mask)
    added, seen = _computed_mask(p, mask, less=finite and causal is not None)
    if causal is None:
        return added, None if finite else seen
    both = p.binary("add", added, _added(p, causal))
    return both, None if finite else p.binary("logical_and", seen, _boolean(p, causal))


def _shared(p: Lowering, x: Var, heads: int) -> Var:
    """Keys or values with every head repeated for the query heads that share it."""
    batch, shared, length, depth = x.shape
    times = heads // shared
    if times == 1:
        return x
    single = p.reshape(x, (batch, shared, 1, length * depth))
    return p.reshape(p.spread(single, (batch, shared, times, length * depth)), (batch, heads, length, depth))


def _added(p: Lowering, seen: Array) -> Var:
    """What is added to the scores so that only `seen` remains; one constant for all layers with this mask."""
    key = ("added", seen.shape, seen.tobytes())
    if key not in p.shared:
        p.shared[key] = p.floats(np.where(seen, 0.0, HIDDEN[p.precision]), "mask")
    return p.shared[key]


def _boolean(p: Lowering, seen: Array) -> Var:
    key = ("seen", seen.shape, seen.tobytes())
    if key not in p.shared:
        p.shared[key] = p.program.const(seen, "bool", name="seen")
    return p.shared[key]


def _known_mask(p: Lowering, mask: Array, causal: Array | None) -> tuple[Var, Var | None]:
    """A constant mask and the causal one in a single sum; which are seen, if a query sees none."""
    seen = mask if mask.dtype == bool else mask > -np.inf
    seen = seen if causal is None else np.logical_and(seen, causal)
    if mask.dtype == bool:
        added = _added(p, seen)
    else:
        hidden = HIDDEN[p.precision]
        added = p.floats(np.where(seen, np.maximum(mask.astype(np.float32), hidden), hidden), "mask")
    return added, None if seen.any(-1).all() else _boolean(p, np.ascontiguousarray(seen))


def _computed_mask(p: Lowering, mask: Value, less: bool) -> tuple[Var, Var]:
    """What is added to the scores, and what is seen; derived once for all layers that share the mask. `less`: what it
    hides is less hidden than what comes later."""
    given, hidden = p[mask], HIDDEN[p.precision]
    if ("added", mask, less) not in p.shared:
        if given.dtype == "bool":
            number = p.cast(given, p.precision)
            p.shared["added", mask, less] = p.like(p.like(number, "sub", y=1.0), "mul", y=-hidden)
            p.shared["seen", mask] = given
        else:
            p.shared["added", mask, less] = p.like(given, "maximum", y=hidden / 2 if less else hidden)
            p.shared["seen", mask] = p.test("greater", given, hidden)
    return p.shared["added", mask, less], p.shared["seen", mask]

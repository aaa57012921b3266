"""Scaled dot-product attention as matrix products and softmax, which every compute unit runs."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.tensor import BOOL
from targets.coreml.lower.table import FLOATS, Lowering, lowers, operand_types
from targets.coreml.mil import Var

HIDDEN = {
    "fp16": -6.0e4,
    "fp32": -1.0e30,
}  # added to the scores of what must not be seen; finite, so that nothing is NaN


@lowers(ops.Attention, needs=[operand_types(*FLOATS, BOOL)])
def _attention(p: Lowering, node: Node, op: ops.Attention) -> None:
    """The queries are scaled before the product, which keeps fp16 scores small."""
    q, k, v, *given = p.operands(node)
    batch, heads, queries, _ = q.shape
    keys = k.shape[2]
    k, v = _shared(p, k, heads), _shared(p, v, heads)
    scores = p.add(
        "matmul",
        {"x": p.like(q, "mul", y=op.scale), "y": k, "transpose_x": False, "transpose_y": True},
        q.dtype,
        (batch, heads, queries, keys),
    )
    if op.softcap > 0:
        scores = p.like(p.like(p.like(scores, "mul", y=1 / op.softcap), "tanh"), "mul", y=op.softcap)
    hidden = HIDDEN[p.precision]
    if op.causal:
        unseen = np.where(np.tri(queries, keys, dtype=bool), 0.0, hidden).astype(np.float32)
        scores = p.like(
            scores, "add", y=p.program.const(unseen.reshape(1, 1, queries, keys), p.precision, name="causal_mask")
        )
    if given:
        scores = _masked(p, scores, given[0], hidden)
    weights = p.like(scores, "softmax", axis=-1)
    p.emit(node, "matmul", x=weights, y=v, transpose_x=False, transpose_y=False)


def _shared(p: Lowering, x: Var, heads: int) -> Var:
    """Keys or values with every head repeated for the query heads that share it."""
    batch, shared, length, depth = x.shape
    times = heads // shared
    if times == 1:
        return x
    single = p.reshape(x, (batch, shared, 1, length * depth))
    repeated = p.add("tile", {"x": single, "reps": [1, 1, times, 1]}, x.dtype, (batch, shared, times, length * depth))
    return p.reshape(repeated, (batch, heads, length, depth))


def _masked(p: Lowering, scores: Var, mask: Var, hidden: float) -> Var:
    if mask.dtype == "bool":
        mask = p.add(
            "select",
            {"cond": mask, "a": 0.0, "b": p.program.const(np.float32(hidden), p.precision)},
            p.precision,
            mask.shape,
        )
    elif mask.value is not None:
        finite = np.maximum(np.asarray(mask.value, np.float32), hidden)
        mask = p.program.const(finite, p.precision, name="mask")
    return p.like(scores, "add", y=mask)

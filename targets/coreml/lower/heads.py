"""The products of attention head by head, in (B, C, 1, S)."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node, Value
from compiler.target import Need
from targets.coreml.lower.lowering import Lowering
from targets.coreml.lower.table import FLOAT, lowers
from targets.coreml.mil import Var

SCORES, WEIGHTED = "bchk,bchq->bkhq", "bchk,bkhq->bchq"


def _is_product_of_heads(node: Node) -> bool:
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.Einsum) and x is not None
    return op.equation == WEIGHTED or (op.equation == SCORES and x.type.shape[2] == 1)


HEADS = Need(
    text=f"one of the products of attention per head, {SCORES} with h = 1 or {WEIGHTED}; others decompose",
    holds=_is_product_of_heads,
    source="coremltools 9.0, type inference of einsum; Apple, Deploying Transformers on the Apple Neural Engine, 2022",
    confidence="documented",
)


@lowers(ops.Einsum, needs=[FLOAT, HEADS])
def _einsum(p: Lowering, node: Node, op: ops.Einsum) -> None:
    """MIL's einsum contracts the last axis of its first operand: values fit, keys do not; those are the left side of a
    product of matrices that takes it transposed, so that no layer transposes them."""
    if op.equation == WEIGHTED:
        p.emit(node, "einsum", values=p.operands(node), equation="nchw,nwhu->nchu")
        return
    keys, queries = (without_height(p, v) for v in node.inputs if v is not None)
    scores = p.matmul(keys, queries, transpose_x=True)
    p.emit(node, "expand_dims", x=scores, axes=[2])


def without_height(p: Lowering, v: Value) -> Var:
    """A value [B, C, 1, S] as [B, C, S], once for all that ask for it."""
    key = ("without height", v)
    if key not in p.shared:
        batch, channels, _, length = v.type.dims
        x = p[v]
        p.shared[key] = p.add("squeeze", {"x": x, "axes": [2]}, x.dtype, (batch, channels, length))
    return p.shared[key]


def is_for_scores(v: Value, user: Node) -> bool:
    """Whether a layer reads a value without its height."""
    return isinstance(user.op, ops.Einsum) and user.op.equation == SCORES and not v.type.quant

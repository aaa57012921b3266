"""Where the scale of an attention can be multiplied into the weights that its queries come from."""

from __future__ import annotations

import numpy as np

from compiler.graph import Node, Value
from compiler.op import Op
from compiler.ops.attention import Attention
from compiler.ops.elementwise import Add, Mul, Neg, Sub
from compiler.ops.index import Gather
from compiler.ops.matmul import Dense
from compiler.ops.parts import Concat, Slice, Split
from compiler.ops.shape import Reshape, Transpose
from compiler.tensor import Array

VIEWS: tuple[type[Op], ...] = (Reshape, Transpose, Slice, Split, Gather)
LINEAR: tuple[type[Op], ...] = (*VIEWS, Neg, Concat, Add, Sub, Mul)
LARGEST = 1 << 22  # elements that are followed one by one
Rows = dict[Node, Array]  # a dense layer -> a factor for each of its results


def scalable(node: Node) -> Rows | None:
    """The dense layers whose results, times the scale of an attention in some rows, give its queries times the scale,
    and nothing else reads those rows; None if there are none."""
    op, q = node.op, node.inputs[0]
    assert isinstance(op, Attention) and q is not None
    if op.scale == 1:
        return None
    return _whole(node, q, op.scale) or _part(node, q, op.scale)


def _is_source(v: Value) -> bool:
    node = v.node
    return node is not None and isinstance(node.op, Dense) and all(w is None or w.is_const for w in node.inputs[1:])


def _whole(attention: Node, q: Value, scale: float) -> Rows | None:
    """Through linear layers of which all lead to the queries."""
    met: dict[Value, None] = {}
    stack, sources = [q], []
    while stack:
        v = stack.pop()
        if v in met:
            continue
        met[v] = None
        if _is_source(v):
            sources.append(v)
            continue
        node = v.node
        if node is None or not isinstance(node.op, LINEAR):
            return None
        moving = [x for x in node.inputs if x is not None and x.data is None]
        if isinstance(node.op, Mul):
            if len(moving) != 1:
                return None
        elif not isinstance(node.op, Gather) and len(moving) != len(node.inputs):
            return None
        stack.extend(moving[:1] if isinstance(node.op, VIEWS) else moving)
    inside = {v.node for v in met} | {attention}
    alone = all(not v.n_out and inside.issuperset(v.users) for v in met)
    once = q.users == {attention: 1} and not any(v in met for v in attention.inputs[1:])
    if not alone or not once or any(o not in met for v in met if v.node and not _is_source(v) for o in v.node.outputs):
        return None
    return {v.node: np.full(v.type.dims[-1], scale) for v in sources if v.node is not None}


def _part(attention: Node, q: Value, scale: float) -> Rows | None:
    """Through views of a dense layer whose other rows lead elsewhere: keys and values, mostly."""
    v: Value | None = q
    while v is not None and not _is_source(v):
        node = v.node
        fits = node is not None and isinstance(node.op, VIEWS)
        v = node.inputs[0] if fits and node is not None else None
    if v is None or v.node is None or v.type.size > LARGEST:
        return None
    width = v.type.dims[-1]
    used, elsewhere = np.zeros((2, width), bool)
    stack = [(v, np.broadcast_to(np.arange(width, dtype=np.int32), v.type.dims))]
    while stack:
        x, rows = stack.pop()
        if x.n_out:
            elsewhere[rows] = True
        for user in x.users:
            if (
                isinstance(user.op, VIEWS)
                and all(w is None or w.is_const for w in user.inputs[1:])
                and user.inputs[0] is x
            ):
                moved = user.op.evaluate(rows, *(w.data for w in user.inputs[1:] if w is not None))
                stack.extend(zip(user.outputs, moved if isinstance(moved, tuple) else (moved,), strict=True))
                continue
            mine = user is attention and x is q and user.inputs.count(q) == 1
            (used if mine else elsewhere)[rows] = True
    if not used.any() or (used & elsewhere).any():
        return None
    return {v.node: np.where(used, scale, 1.0)}

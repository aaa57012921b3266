"""Values that hide scores from a softmax."""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.op import Op

CARRIES: tuple[type[Op], ...] = (
    ops.Add, ops.Where, ops.Mul, ops.Sub, ops.Cast, ops.Reshape, ops.Transpose, ops.Expand, ops.Slice, ops.Tile,
    ops.Identity, ops.Max, ops.Concat,
)  # fmt: skip
WHOLE = (ops.Sign, ops.Floor, ops.Ceil, ops.Round)
COMPARES = (ops.Greater, ops.GreaterOrEqual, ops.Less, ops.LessOrEqual, ops.Equal)


def hiding(graph: Graph, compared: bool = False, attention: bool = True) -> set[Value]:
    """Values that every reader turns into the operand of a softmax, or (`attention`) into the mask of an attention;
    with `compared`, or only compares with something."""
    found: set[Value] = set()
    if not graph.of(ops.Softmax, ops.Attention, *COMPARES):
        return found
    for node in reversed(list(graph.nodes)):
        for v in node.outputs:
            if v.users and not v.n_out and all(_hides(user, v, found, compared, attention) for user in v.users):
                found.add(v)
    return found


def _hides(user: Node, v: Value, known: Set[Value], compared: bool, attention: bool) -> bool:
    if isinstance(user.op, COMPARES):
        return compared
    if isinstance(user.op, ops.Softmax):
        return not any(isinstance(reader.op, ops.IsNaN) for reader in user.output.users)
    if isinstance(user.op, ops.Attention):
        return attention and v not in user.inputs[:3]
    return isinstance(user.op, CARRIES) and user.output in known


def is_switch(factor: Value) -> bool:
    """Whether a factor is made of integers, booleans, signs, constants and inputs alone: a number that is multiplied
    with it hides or does not, and how large it is does not matter."""
    waiting, seen = [factor], {factor}
    while waiting:
        v = waiting.pop()
        if v.data is not None or v.node is None or not v.type.dtype.is_float or isinstance(v.node.op, WHOLE):
            continue
        if not isinstance(v.node.op, CARRIES):
            return False
        new = [x for x in v.node.inputs if x is not None and x not in seen]
        waiting += new
        seen.update(new)
    return True


def is_finite(mask: Value) -> bool:
    """Whether a computed mask of floats is made of integers, booleans and constants without infinities alone: then a
    query that sees nothing gives the mean of the values, as it does in the model."""
    waiting, seen = [mask], {mask}
    while waiting:
        v = waiting.pop()
        if v.data is not None:
            if v.type.dtype.is_float and not np.isfinite(v.data).all():
                return False
        elif v.type.dtype.is_float:
            if v.node is None or not isinstance(v.node.op, CARRIES):
                return False
            waiting += [x for x in v.node.inputs if x is not None and x not in seen]
            seen.update(x for x in v.node.inputs if x is not None)
    return mask.type.dtype.is_float

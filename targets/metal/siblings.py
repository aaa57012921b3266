"""Which dense layers that read the same value may be one product: those whose columns are read where they lie."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node, Value
from compiler.tensor import F16, F32
from targets.source.chains import is_elementwise
from targets.source.lower.strided import MOVES


def is_read_in_columns(node: Node) -> bool:
    """Whether a layer is a dense one with constant weights whose results attention and loops over elements read in
    place, and none of these would be its tail."""
    x, *constants = node.inputs
    known = all(v is None or v.data is not None for v in constants)
    if not isinstance(node.op, ops.Dense) or not known or x is None or node.output.type.dtype not in (F16, F32):
        return False
    users = node.output.users
    return bool(users) and not (len(users) == 1 and is_elementwise(next(iter(users)))) and _in_place(node.output)


def _in_place(v: Value) -> bool:
    """Whether all that read a value, or what layers move it to, take it with distances between rows."""
    if v.n_out or not v.type.is_static:
        return False
    return all(
        isinstance(user.op, ops.Attention)
        or is_elementwise(user)
        or (isinstance(user.op, MOVES) and all(map(_in_place, user.outputs)))
        for user in v.users
    )

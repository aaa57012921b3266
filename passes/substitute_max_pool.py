"""Pad what a max pool reads with zeros where nothing is below 0, for accelerators that cannot pad with -infinity."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Value
from compiler.ops.pool import MaxPool
from compiler.ops.window import same_pads
from compiler.pass_base import ErrorClass, RewritePass
from compiler.rewrite import Result, Rule, Skip
from passes._decompose import Layers
from passes._sign import is_nonnegative
from passes._substitute import instead_of

KEEPS = (ops.MaxPool, ops.AveragePool, ops.Concat, ops.Reshape, ops.Transpose, ops.Slice, ops.Split, ops.Pad)


def parts(add: Layers, op: MaxPool, x: Value) -> Result:
    """Zeros around, then a pool without padding. Padding that builtins have stays, and indices."""
    n, spatial = len(op.kernel), x.type.dims[2:]
    same = same_pads(spatial, op.kernel, op.strides, op.dilations, upper=True)
    if op.indices or op.ceil_mode or not any(op.pads) or op.pads == same:
        return None
    if not stays_nonnegative(x):
        return Skip("what is pooled may be below 0")
    wide = add(ops.Pad(pads=(0, 0, *op.pads[:n], 0, 0, *op.pads[n:])), x)
    return add(op.with_(pads=(0,) * 2 * n), wide)


def stays_nonnegative(x: Value) -> bool:
    """Whether no element is below 0, as far as the layers in front tell."""
    waiting = {x}
    seen = set[Value]()
    while waiting:
        v = waiting.pop()
        seen.add(v)
        if is_nonnegative(v):
            continue
        op = None if v.node is None else v.node.op
        if v.node is None or not isinstance(op, KEEPS) or (isinstance(op, ops.Pad) and op.value != 0):
            return False
        waiting |= {i for i in v.node.inputs if i is not None} - seen
    return True


class SubstituteMaxPool(RewritePass):
    """Max pools of numbers that are not below 0, padded as no builtin does, get their padding in front."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(MaxPool, parts),)

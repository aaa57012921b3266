"""Whether a value cannot be negative, or is positive, as far as the layers that compute it tell."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Value
from compiler.op import Op

NEVER_NEGATIVE: tuple[type[Op], ...] = (
    ops.Abs, ops.Exp, ops.HardSigmoid, ops.Relu, ops.Sigmoid, ops.Softmax, ops.Softplus, ops.Sqrt,
)  # fmt: skip


def is_positive(v: Value) -> bool:
    """Whether all numbers are above 0 by more than rounding: a positive constant is added to what is not negative, or
    they are clipped there."""
    if v.data is not None:
        return bool((v.data > 0).all())
    op = None if v.node is None else v.node.op
    if isinstance(op, ops.Clip):
        return op.low > 0
    if v.node is None or not isinstance(op, ops.Add):
        return False
    a, b = v.node.inputs
    assert a is not None and b is not None
    return any(is_positive(c) and c.data is not None and is_nonnegative(x) for c, x in ((a, b), (b, a)))


def is_nonnegative(v: Value) -> bool:
    """Whether no number is below 0."""
    op = None if v.node is None else v.node.op
    if isinstance(op, ops.Clip):
        return op.low >= 0
    square = v.node is not None and isinstance(op, ops.Mul) and v.node.inputs[0] is v.node.inputs[1]
    return square or isinstance(op, NEVER_NEGATIVE)

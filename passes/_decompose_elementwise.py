"""Arithmetic and questions, element by element, by simpler ones."""

from __future__ import annotations

from math import inf

from compiler import ops
from compiler.graph import Value
from compiler.op import Op
from passes._decompose import Layers, decomposes


@decomposes(ops.IsInf)
def _is_inf(add: Layers, op: ops.IsInf, x: Value) -> Value:
    if op.detect_negative and op.detect_positive:
        return add(ops.Equal(), add(ops.Abs(), x), inf)
    if op.detect_negative or op.detect_positive:
        return add(ops.Equal(), x, inf if op.detect_positive else -inf)
    return add(ops.Less(), add(ops.Abs(), x), 0.0)


@decomposes(ops.Mean)
def _mean(add: Layers, op: Op, *xs: Value) -> Value:
    return add(ops.Mul(), add(ops.Sum(), *xs), 1 / len(xs))


@decomposes(ops.Sum, ops.Max, ops.Min)
def _variadic(add: Layers, op: Op, *xs: Value) -> Value | None:
    """Two operands at a time."""
    y, pairwise = xs[0], ops.Add() if isinstance(op, ops.Sum) else op
    if len(xs) == 2 and pairwise is op:
        return None
    for x in xs[1:]:
        y = add(pairwise, y, x)
    return y


@decomposes(ops.Mod)
def _truncated_mod(add: Layers, op: ops.Mod, x: Value, y: Value) -> Value | None:
    """With the sign of x: that of the sizes for floats; for integers, whose smallest has no size, the remainder with
    the sign of y, less y where the signs differ."""
    if not op.fmod:
        return None
    if x.type.dtype.is_float:
        return add(ops.Mul(), add(ops.Mod(), add(ops.Abs(), x), add(ops.Abs(), y)), add(ops.Sign(), x))
    rest = add(ops.Mod(), x, y)
    if x.type.dtype.kind == "u":
        return rest
    differ = add(ops.Xor(), add(ops.Less(), rest, 0), add(ops.Less(), x, 0))
    wrong = add(ops.And(), differ, add(ops.Not(), add(ops.Equal(), rest, 0)))
    return add(ops.Where(), wrong, add(ops.Sub(), rest, y), rest)

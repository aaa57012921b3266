"""Operations on single elements in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from math import inf, pi, sqrt
from typing import Any

import tensorflow as tf

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.tensor import BOOL, DTYPES, F32, F64, I32, I64, TensorType
from compiler.train.lower import LOWERED, Held, Lowering, Tensor, is_any, is_float, lowers

CASTS = (F32, F64, I32, I64, BOOL)
Function = Callable[[Any, Tensor], Tensor]  # of an operation and an operand


def _gelu(op: ops.Gelu, x: Tensor) -> Tensor:
    if op.approximate == "tanh":
        return 0.5 * x * (1 + tf.tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + tf.math.erf(x / sqrt(2)))


def _clip(op: ops.Clip, x: Tensor) -> Tensor:
    x = x if op.low == -inf else tf.maximum(x, tf.cast(op.low, x.dtype))
    return x if op.high == inf else tf.minimum(x, tf.cast(op.high, x.dtype))


def _selu(op: ops.Selu, x: Tensor) -> Tensor:
    return op.gamma * tf.where(x > 0, x, op.alpha * tf.math.expm1(tf.minimum(x, 0)))


def _plainly(function: Callable[[Tensor], Tensor]) -> Function:
    return lambda _, x: function(x)


UNARY: dict[type[Op], Function] = {
    **{
        op: _plainly(function)
        for op, function in (
            (ops.Abs, tf.abs),
            (ops.Neg, tf.negative),
            (ops.Sign, tf.sign),
            (ops.Floor, tf.floor),
            (ops.Ceil, tf.math.ceil),
            (ops.Round, tf.round),
            (ops.Sqrt, tf.sqrt),
            (ops.Reciprocal, tf.math.reciprocal),
            (ops.Exp, tf.exp),
            (ops.Log, tf.math.log),
            (ops.Sin, tf.sin),
            (ops.Cos, tf.cos),
            (ops.Tan, tf.tan),
            (ops.Asin, tf.asin),
            (ops.Acos, tf.acos),
            (ops.Atan, tf.atan),
            (ops.Sinh, tf.sinh),
            (ops.Cosh, tf.cosh),
            (ops.Asinh, tf.asinh),
            (ops.Acosh, tf.acosh),
            (ops.Atanh, tf.atanh),
            (ops.Tanh, tf.tanh),
            (ops.Erf, tf.math.erf),
            (ops.Relu, tf.nn.relu),
            (ops.Sigmoid, tf.sigmoid),
            (ops.Softplus, tf.math.softplus),
            (ops.Softsign, tf.nn.softsign),
        )
    },
    ops.Gelu: _gelu,
    ops.Clip: _clip,
    ops.Selu: _selu,
    ops.Silu: lambda op, x: x * tf.sigmoid(op.alpha * x),
    ops.Elu: lambda op, x: tf.where(x >= 0, x, op.alpha * tf.math.expm1(tf.minimum(x, 0))),
    ops.LeakyRelu: lambda op, x: tf.where(x >= 0, x, op.alpha * x),
    ops.HardSigmoid: lambda op, x: tf.clip_by_value(op.alpha * x + op.beta, 0, 1),
    ops.HardSwish: lambda _, x: x * tf.clip_by_value(x / 6 + 0.5, 0, 1),
}


def _unary(function: Function, op: Op, out: TensorType, x: Held) -> Tensor | Held:
    return Held(out, last=function(op, x.last)) if x.is_last else function(op, x.plain)


LOWERED.update((op, Lowering(partial(_unary, function), is_float, ())) for op, function in UNARY.items())


def _as_channels(x: Held, rank: int) -> Tensor | None:
    """What broadcasts to an image of that rank with its channels last; None if that takes a transposition."""
    if x.is_last and x.type.rank == rank:
        return x.last
    shape = (1,) * (rank - x.type.rank) + x.type.dims
    if x.varies or any(d != 1 for i, d in enumerate(shape) if i != 1):
        return None
    return tf.reshape(x.plain, shape[1:2])


def joined(function: Callable[..., Tensor], out: TensorType, xs: Sequence[Held]) -> Tensor | Held:
    """A function of values that are broadcast together."""
    if any(x.is_last and x.type.shape == out.shape for x in xs):
        images = [_as_channels(x, out.rank) for x in xs]
        if all(i is not None for i in images):
            return Held(out, last=function(*images))
    return function(*(x.aligned(out.rank) for x in xs))


BINARY: dict[type[Op], Callable[..., Tensor]] = {
    ops.Add: tf.add,
    ops.Sub: tf.subtract,
    ops.Mul: tf.multiply,
    ops.Div: tf.divide,
    ops.Max: lambda *xs: reduce(tf.maximum, xs),
    ops.Min: lambda *xs: reduce(tf.minimum, xs),
    ops.Sum: lambda *xs: reduce(tf.add, xs),
    ops.Mean: lambda *xs: reduce(tf.add, xs) / len(xs),
    ops.PRelu: lambda x, slope: tf.where(x >= 0, x, slope * x),
}
QUESTIONS: dict[type[Op], Callable[..., Tensor]] = {
    ops.Equal: tf.equal,
    ops.Less: tf.less,
    ops.Greater: tf.greater,
    ops.LessOrEqual: tf.less_equal,
    ops.GreaterOrEqual: tf.greater_equal,
    ops.And: tf.logical_and,
    ops.Or: tf.logical_or,
    ops.Not: tf.logical_not,
}


def _nary(function: Callable[..., Tensor], op: Op, out: TensorType, *xs: Held) -> Tensor | Held:
    return joined(function, out, xs)


def _is_decided(node: Node) -> bool:
    """Whether all operands are floats, or i32, i64 or booleans."""
    return all(v is None or v.type.dtype in CASTS for v in node.inputs)


LOWERED.update((op, Lowering(partial(_nary, function), is_float, ())) for op, function in BINARY.items())
LOWERED.update((op, Lowering(partial(_nary, function), _is_decided, ())) for op, function in QUESTIONS.items())


@lowers(ops.Pow)
def _pow(op: Op, out: TensorType, x: Held, y: Held) -> Tensor | Held:
    return joined(lambda a, b: tf.pow(a, tf.cast(b, a.dtype)), out, (x, y))


@lowers(ops.Where, holds=is_any)
def _where(op: Op, out: TensorType, *xs: Held) -> Tensor | Held:
    return joined(tf.where, out, xs)


@lowers(ops.Identity, ops.ConvertLayout, holds=is_any)
def _identity(op: Op, out: TensorType, x: Held) -> Held:
    return x


@lowers(ops.Cast, holds=lambda n: {n.output.type.dtype, *(t.dtype for t in n.input_types if t)} <= set(CASTS))
def _cast(op: ops.Cast, out: TensorType, x: Held) -> Tensor:
    return tf.cast(x.plain, DTYPES[op.to].numpy)

"""Per-channel scales and shifts, and how they merge into the weights of convolutions and dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from compiler.filemap import release
from compiler.graph import Node, Value
from compiler.op import Op
from compiler.ops.conv import Conv, ConvTranspose
from compiler.ops.elementwise import Add, Div, Mul, Sub
from compiler.ops.matmul import Dense
from compiler.ops.norm import BatchNorm
from compiler.pattern import Const, Layer, Maybe, Pattern
from compiler.rewrite import Builder, Skip
from compiler.tensor import Array, TensorType

LINEAR = (Conv, ConvTranspose, Dense)
LARGE = 1 << 14  # bytes of a weight whose file pages are worth giving back


class Affine(NamedTuple):
    """scale * x + shift along one axis: f64 vectors with one number per channel; None stands for 1 and for 0."""

    scale: Array | None
    shift: Array | None


def linear(x: Pattern) -> Layer:
    """A convolution or dense layer with a constant weight and bias."""
    return Layer(LINEAR, x, Const(), Maybe(Const()))


def batch_norm(x: Pattern) -> Layer:
    """A batch normalisation with constant statistics."""
    return Layer(BatchNorm, x, Const(), Const(), Const(), Const())


def arithmetic(x: Pattern) -> tuple[Layer, ...]:
    """x + c, x * c, x - c, x / c, c - x with a constant c."""
    return Layer((Add, Mul), x, Const()), Layer((Sub, Div), x, Const()), Layer(Sub, Const(), x)


def channel_axis(op: Op, t: TensorType) -> int:
    """The axis of the operand and of the result of a linear layer or batch normalisation that is its channels."""
    return t.rank - 1 if type(op) is Dense else 1


def affine_of(node: Node, x: Value, axis: int) -> Affine | Skip | None:
    """What an arithmetic layer or batch normalisation does to its operand x, if that is an Affine along `axis`."""
    if not x.type.dtype.is_float or node.output.type != x.type:
        return None
    op = node.op
    if isinstance(op, BatchNorm):
        scale, bias, mean, var = statistics(node)
        if axis != 1 or not np.all(var + op.eps > 0):
            return None if axis != 1 else Skip("variance + eps is not positive")
        k = scale / np.sqrt(var + op.eps)
        return _finite(Affine(k, bias - k * mean))
    first = node.inputs[0] is x
    c = _vector(_data(node.inputs[1 if first else 0]), x.type, axis)
    if c is None:
        return None
    if isinstance(op, Mul):
        return _finite(Affine(c, None))
    if isinstance(op, Div):
        return _finite(Affine(1 / c, None)) if np.all(c) else Skip("divides by zero")
    if isinstance(op, Sub):
        return _finite(Affine(None, -c) if first else Affine(-np.ones_like(c), c))
    return _finite(Affine(None, c))


def statistics(norm: Node) -> tuple[Array, ...]:
    """Scale, bias, mean and variance of a batch normalisation in f64."""
    return tuple(_data(v).astype(np.float64) for v in norm.inputs[1:])


def norm_with(g: Builder, norm: Node, x: Value, parameters: tuple[Array, ...]) -> Value | Skip:
    """The batch normalisation on x with another scale, bias and mean."""
    with np.errstate(over="ignore"):
        made = [g.const(p, like=old) for p, old in zip(parameters, norm.inputs[1:], strict=False)]
    if not all(np.isfinite(_data(v)).all() for v in made):
        return Skip("a parameter overflows its element type")
    return g.add(norm.op, x, *made, norm.inputs[4])


def _data(v: Value | None) -> Array:
    assert v is not None
    assert v.data is not None
    return v.data


def _finite(a: Affine) -> Affine | Skip:
    fine = all(v is None or bool(np.isfinite(v).all()) for v in a)
    return a if fine else Skip("a scale or shift is not finite")


def _vector(data: Array, t: TensorType, axis: int) -> Array | None:
    """A constant that broadcasts over `t` along `axis` alone, as one f64 number per channel; None if it does not."""
    channels = t.shape[axis]
    if not isinstance(channels, int) or data.size not in (1, channels):
        return None
    lead = t.rank - data.ndim
    if data.size > 1 and not (lead <= axis and data.shape[axis - lead] == channels):
        return None
    return np.broadcast_to(data.reshape(-1).astype(np.float64), (channels,))


def after(g: Builder, layer: Node, a: Affine) -> Value | Skip:
    """scale * y + shift of the result y of a linear layer, as one layer of the same operation."""
    bias = _bias(layer)
    if bias is not None and a.scale is not None:
        bias = bias * a.scale
    if a.shift is not None:
        bias = a.shift if bias is None else bias + a.shift
    x = layer.inputs[0]
    assert x is not None
    return _rebuilt(g, layer, x, _scaled(layer, a.scale, inputs=False), bias)


def before(g: Builder, layer: Node, x: Value, a: Affine) -> Value | Skip:
    """A linear layer of scale * x + shift, as one layer of x; a padded convolution cannot take a shift."""
    bias = _bias(layer)
    if a.shift is not None and a.shift.any():
        op = layer.op
        if type(op) is ConvTranspose or (type(op) is Conv and any(op.pads)):
            return Skip("the padding would not be shifted")
        extra = response(op, _data(layer.inputs[1]), a.shift)
        bias = extra if bias is None else bias + extra
    return _rebuilt(g, layer, x, _scaled(layer, a.scale, inputs=True), bias)


def _bias(layer: Node) -> Array | None:
    b = layer.inputs[2] if len(layer.inputs) > 2 else None
    return None if b is None else _data(b).astype(np.float64)


def _rebuilt(g: Builder, layer: Node, x: Value, weight: Array, bias: Array | None) -> Value | Skip:
    """The layer on x with another weight and bias; Skip if their element type cannot hold them."""
    _, w, b = (*layer.inputs, None)[:3]
    assert w is not None
    if weight is not w.data:
        if weight.dtype.itemsize < 4 and not np.isfinite(weight).all():
            return Skip(f"a scaled weight overflows {w.type.dtype}")
        w = g.const(weight, like=w)
    if bias is None:
        return g.add(layer.op, x, w)
    with np.errstate(over="ignore"):
        shift = bias.astype(w.type.dtype.numpy)
    if not np.isfinite(shift).all():
        return Skip(f"the bias overflows {w.type.dtype}")
    return g.add(layer.op, x, w, g.const(shift, like=b))


def _scaled(layer: Node, k: Array | None, inputs: bool) -> Array:
    """The weight of a layer with every input (or output) channel multiplied by its factor."""
    op, w = layer.op, _data(layer.inputs[1])
    if k is None:
        return w
    if type(op) is Dense:
        scaled = _times(w, k[:, None] if inputs != op.transposed else k)
    elif (type(op) is ConvTranspose) == inputs:
        scaled = _times(w, k.reshape(-1, *[1] * (w.ndim - 1)))
    else:
        groups = op.groups  # type: ignore[attr-defined]  # a convolution
        blocks = w.reshape(groups, w.shape[0] // groups, w.shape[1], -1)
        scaled = _times(blocks, k.reshape(groups, 1, -1, 1)).reshape(w.shape)
    if w.nbytes >= LARGE:
        release(w)
    return scaled


def _times(w: Array, k: Array) -> Array:
    """w * k, computed in at least f32, in the element type of w."""
    wide = np.float64 if w.dtype == np.float64 else np.float32
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(w.astype(wide, copy=False) * k.astype(wide)).astype(w.dtype, copy=False)


def response(op: Op, w: Array, shift: Array) -> Array:
    """What a layer without padding answers to an input of one constant per channel."""
    if type(op) is Dense:
        matrix = w.T if op.transposed else w
        return np.asarray(shift @ matrix.astype(np.float64))
    groups = op.groups  # type: ignore[attr-defined]  # a convolution
    taps = w.astype(np.float64).reshape(groups, w.shape[0] // groups, w.shape[1], -1).sum(-1)
    return np.einsum("gmc,gc->gm", taps, shift.reshape(groups, -1)).reshape(-1)


def weight_kind(layer: Node) -> tuple[int, Op, tuple[int, ...]] | None:
    """What layers must share to run as one: input, operation and kernel; None if a weight is not constant."""
    x, *constants = layer.inputs
    if any(v is not None and v.data is None for v in constants):
        return None
    return id(x), layer.op, () if type(layer.op) is Dense else _data(constants[0]).shape[1:]


def joined_weights(layers: Sequence[Node]) -> tuple[Array, Array | None]:
    """The weights and biases of layers of one kind, one after the other along the output channels."""
    op = layers[0].op
    axis = 1 if type(op) is Dense and not op.transposed else 0
    weights = [_data(layer.inputs[1]) for layer in layers]
    biases = [layer.inputs[2] if len(layer.inputs) > 2 else None for layer in layers]
    if not any(biases):
        return np.concatenate(weights, axis), None
    filled = [np.zeros(w.shape[axis], w.dtype) if b is None else _data(b) for b, w in zip(biases, weights, strict=True)]
    return np.concatenate(weights, axis), np.concatenate(filled)

"""QLinear layers by layers of floats between DQ and Q layers, and the ways of these past layers that move numbers."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder
from compiler.tensor import F32, Array
from passes._qdq import MOVES, has_known_scales, of_constant, params_of

MOVED = Layer(MOVES, Wild(), rest=True, shared=True)
DEQUANTIZED = Layer(ops.DequantizeLinear, MOVED, rest=True)
QUANTIZED = Layer(ops.QuantizeLinear, Wild(), rest=True, shared=True)


def constant(m: Match, b: Builder) -> Value | None:
    """A dequantized constant as floats that know how they are stored."""
    node = m.root
    stored, scale, *zero = node.inputs
    params = of_constant(node)
    if stored is None or stored.data is None or scale is None or params is None:
        return None
    held = [None if v is None else v.data for v in (stored, scale, *zero)]
    made = b.graph.const(np.asarray(node.op.evaluate(*held)), node.output.name, stored.origin)
    made.type = made.type._replace(quant=params)
    return made


def lifted(m: Match, b: Builder) -> Value | None:
    """DQ(move(x)) = move(DQ(x))."""
    node, moved = m.root, m.node(MOVED)
    params = params_of(node)
    if params is None or params.axis is not None or any(v.is_read for v in moved.outputs[1:]):
        return None
    x, *others = moved.inputs
    return b.add_many(moved.op, b.add(node.op, x, *node.inputs[1:]), *others)[0]


def sunk(m: Match, b: Builder) -> Value | None:
    """move(Q(x)) = Q(move(x)), where that is a result of the model."""
    node, source = m.root, m.node(QUANTIZED)
    params = params_of(source)
    unread = not any(v.is_read for v in node.outputs[1:])
    if params is None or params.axis is not None or not node.outputs[0].n_out or len(node.outputs) > 1 or not unread:
        return None
    x, *parameters = source.inputs
    return b.add(source.op, b.add(node.op, x, *node.inputs[1:]), *parameters)


def convolution(m: Match, b: Builder) -> Value | None:
    """QLinearConv. The scale of its bias is that of the products."""
    node, op = m.root, m.root.op
    x, x_scale, x_zero, w, w_scale, w_zero, scale, zero, *rest = node.inputs
    assert isinstance(op, ops.QLinearConv) and w is not None and x_scale is not None and w_scale is not None
    if not has_known_scales(node) or not w.type.is_static:
        return None
    filters = w.type.dims[0]
    bias = None
    if rest and rest[0] is not None:
        products = np.broadcast_to(_data(x_scale).reshape(()) * _data(w_scale).reshape(-1), (filters,))
        bias = b.add(ops.DequantizeLinear(axis=0), rest[0], b.const(np.array(products), like=x_scale.type))
    conv = ops.Conv(strides=op.strides, pads=op.pads, dilations=op.dilations, groups=op.groups)
    weight = _weight(b, w, w_scale, w_zero, 0)
    return _requantized(b, b.add(conv, b.add(ops.DequantizeLinear(), x, x_scale, x_zero), weight, bias), scale, zero)


def product(m: Match, b: Builder) -> Value | None:
    """QLinearMatMul in float32."""
    node = m.root
    x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = node.inputs
    assert y is not None and y_scale is not None and scale is not None and x_scale is not None
    narrow = any(v.type.dtype is not F32 for v in (x_scale, y_scale, scale))
    if not has_known_scales(node) or narrow or y_scale.type.rank > 1 or not y.type.is_static:
        return None
    left = b.add(ops.DequantizeLinear(), x, x_scale, x_zero)
    return _requantized(b, b.add(ops.MatMul(), left, _weight(b, y, y_scale, y_zero, y.type.rank - 1)), scale, zero)


def _weight(b: Builder, w: Value, scale: Value, zero: Value | None, axis: int) -> Value:
    if scale.type.size == 1:
        return b.add(ops.DequantizeLinear(), w, scale, zero)
    if zero is not None and zero.type.shape != scale.type.shape:
        zero = b.const(np.full(scale.type.dims, _data(zero).reshape(())), like=zero)
    return b.add(ops.DequantizeLinear(axis=axis), w, scale, zero)


def _requantized(b: Builder, y: Value, scale: Value | None, zero: Value | None) -> Value:
    assert zero is not None
    return b.add(ops.QuantizeLinear(dtype=zero.type.dtype.name), y, scale, zero)


def _data(v: Value) -> Array:
    assert v.data is not None
    return v.data

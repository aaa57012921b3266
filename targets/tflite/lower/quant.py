"""Q and DQ layers of models whose values are annotated: QUANTIZE and DEQUANTIZE, which the conversion to integers
resolves, at the inputs and results of the model; elsewhere the arithmetic that they stand for. Copies of annotated
values are QUANTIZE too."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.ops.layout import Order
from compiler.ops.numeric import integer_range
from compiler.target import DECOMPOSED, Need
from compiler.tensor import Array, QuantParams
from passes._qdq import is_held, params_of
from passes._qdq_absorb import port
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import TABLE
from targets.tflite.model import Tensor


def _is_settled(node: Node) -> bool:
    """Whether its scales are known and passes have annotated one of its sides."""
    values = [v for v in (node.inputs[0], *node.outputs) if v is not None]
    static = all(v.type.is_static and 0 not in v.type.shape for v in values)
    return static and is_held(node) and any(v.type.quant or v.type.layout for v in values)


SETTLED = Need(text=DECOMPOSED.text, holds=_is_settled)  # what passes have not settled is decomposed


@TABLE.lowers(ops.DequantizeLinear, SETTLED)
def _dequantize(p: Lowering, node: Node, op: Op) -> None:
    x, params = node.inputs[0], params_of(node)
    assert x is not None and params is not None
    order = p.result_order(node)
    if port(node) is not None:
        stored = next(t for name, t in p.model.inputs if name == x.name)
        if stored.shape == tuple(x.type.dims[i] for i in order):
            stored.quant = params
            p.finish(node, p.add("DEQUANTIZE", [stored], "FLOAT32", stored.shape), order)
            return
    y = p.get(x, order)
    scale, zero = _spread(params, order)
    if zero.any():
        y = p.binary("SUB", y, p.const(zero, y.dtype))
    p.finish(node, p.binary("MUL", p.cast(y, "FLOAT32"), p.const(scale, "FLOAT32")), order)


@TABLE.lowers(ops.QuantizeLinear, SETTLED)
def _quantize(p: Lowering, node: Node, op: Op) -> None:
    x, params = node.inputs[0], params_of(node)
    assert x is not None and params is not None
    order = p.result_order(node)
    y = p.get(x, order)
    if port(node) is not None and x.type.quant is not None:
        stored = p.add("QUANTIZE", [y], params.dtype.numpy.name.upper(), y.shape)
        stored.quant = params
        p.bind(node.output, stored, order)
        return
    p.finish(node, _rounded(p, y, params, order), order)


def _rounded(p: Lowering, x: Tensor, params: QuantParams, order: Order) -> Tensor:
    scale, zero = _spread(params, order)
    y = p.unary("ROUND", p.binary("DIV", x, p.const(scale, "FLOAT32")))
    if zero.any():
        y = p.binary("ADD", y, p.const(zero, "FLOAT32"))
    low, high = integer_range(params.dtype)
    y = p.binary("MINIMUM", p.binary("MAXIMUM", y, p.scalar(float(low))), p.scalar(float(high)))
    return p.cast(y, "INT32")


def _spread(params: QuantParams, order: Order) -> tuple[Array, Array]:
    """Scales and zero points that broadcast to a tensor whose axes stand in this order."""
    shape = () if params.axis is None else tuple(-1 if a == params.axis else 1 for a in order)
    return np.array(params.scale, np.float32).reshape(shape), np.array(params.zero_point).reshape(shape)

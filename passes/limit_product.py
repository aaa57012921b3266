"""Limit a product of quantized numbers in front of its own quantization, which limits it too: without, the Neural
Engine may read one of the factors with the scale of the product."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.ops.numeric import integer_range
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Const, Layer, Match, Maybe, OneOf, Wild
from compiler.rewrite import Builder, Result, Rule
from compiler.tensor import DTYPES

SCALE, POINT = Const(), Const()
FACTOR = Layer(ops.DequantizeLinear, rest=True, shared=True)
PRODUCT = OneOf(Layer(ops.Mul, FACTOR, Wild(), shared=True), Layer(ops.Mul, Wild(), FACTOR, shared=True))
QUANTIZED = Layer(ops.QuantizeLinear, PRODUCT, SCALE, Maybe(POINT))


def limited(m: Match, b: Builder) -> Result:
    """The smallest and largest number that the step and the zero point express, of one scale."""
    op, (x, scale, *point) = m.root.op, m.root.inputs
    assert isinstance(op, ops.QuantizeLinear) and x is not None and scale is not None and scale.data is not None
    dtype = DTYPES[op.dtype]
    if scale.type.size != 1 or not dtype.is_integer:
        return None
    zero = 0 if not point or point[0] is None or point[0].data is None else int(np.asarray(point[0].data).item())
    step = float(np.asarray(scale.data, np.float64).item())
    low, high = (float((edge - zero) * step) for edge in integer_range(dtype))
    return b.add(op, b.add(ops.Clip(low=low, high=high), x), *m.root.inputs[1:])


class LimitProduct(RewritePass):
    """Quantized products of quantized factors get a clip to what their integers express."""

    error_class = ErrorClass.EXACT
    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(QUANTIZED, limited),)

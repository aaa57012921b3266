"""Storing the weights of a model of floats in 8 or 4 bits, with a scale for each channel.

CONV_2D and FULLY_CONNECTED have kernels that read the integers: they round what they multiply to 8 bits at each run, by
its own range. For other operators a DEQUANTIZE makes floats of them, which LiteRT runs once for 8 bits, when it loads
the model; for 4 it would run each time, so that what it reads is stored in 8.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.quantize import limits
from compiler.tensor import I4, I8, I16, I32, I64, U8, QuantParams
from targets.tflite import opset
from targets.tflite.lower.axes import same_axis
from targets.tflite.model import NUMPY, Constant, Model, Operator, Tensor

FLOAT = "FLOAT32"
STORED = {I4: "INT4", I8: "INT8", U8: "UINT8", I16: "INT16", I32: "INT32", I64: "INT64"}
READS_INTEGERS = {"CONV_2D": {I8: 5, I4: 7}, "FULLY_CONNECTED": {I8: 12, I4: 12}}  # and in which version
WEIGHT = 1  # their operand


def store_weights(model: Model) -> int:
    """Replace the constants of floats that have parameters of their own; returns how many."""
    stored: dict[int, Tensor] = {}
    floats: dict[int, Tensor] = {}
    operators: list[Operator] = []
    for o in model.operators:
        inputs, version = list(o.inputs), o.version
        for i, t in enumerate(inputs):
            if t is None or t.dtype != FLOAT or t.constant is None or t.quant is None:
                continue
            if i == WEIGHT and o.code in READS_INTEGERS:
                version = max(version, READS_INTEGERS[o.code][t.quant.dtype])
                inputs[i] = stored.setdefault(id(t), _integers(t, t.quant))
            else:
                if id(t) not in floats:
                    operators.append(_expansion(t))
                    floats[id(t)] = operators[-1].outputs[0]
                inputs[i] = floats[id(t)]
        operators.append(o._replace(inputs=tuple(inputs), version=version))
    model.operators = operators
    return len(stored.keys() | floats.keys())


def _integers(t: Tensor, params: QuantParams) -> Tensor:
    """A constant as it is stored."""
    assert t.constant is not None
    stored = Tensor(t.name, STORED[params.dtype], t.shape)
    stored.quant = params
    stored.constant = quantized_constant(t.constant, t.shape, params, narrow=True)
    return stored


def _expansion(t: Tensor) -> Operator:
    """What makes floats of a constant that is stored in 8 bits."""
    assert t.quant is not None
    params = t.quant
    if params.dtype is I4:
        ratio = limits(I4, narrow=True)[1] / limits(I8, narrow=True)[1]
        params = params._replace(scale=tuple(s * ratio for s in params.scale), dtype=I8)
    stored, wide = _integers(t, params), Tensor(t.name, FLOAT, t.shape)
    return Operator("DEQUANTIZE", (stored,), (wide,), {}, opset.version("DEQUANTIZE", [stored], [wide], {}))


def quantized_constant(constant: Constant, shape: Sequence[int], params: QuantParams, narrow: bool) -> Constant:
    """The constant of a tensor of this shape, as the integers of `params`."""
    array = constant.array if constant.perm is None else constant.array.transpose(constant.perm)
    axis = None if params.axis is None else same_axis(shape, array.shape, params.axis)
    assert params.axis is None or axis is not None, f"axis {params.axis} of {list(shape)} is no axis of {array.shape}"
    kind = NUMPY[STORED[params.dtype]]
    return constant._replace(dtype=kind, quant=params._replace(axis=axis), narrow=narrow)

"""Parameters of weights and biases: symmetric, one scale for each result; a bias has the step of the products. Weights
that are stored with other parameters keep their scales where these do."""

from __future__ import annotations

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.quantize import dequantized, peaks_along, quantized, symmetric
from compiler.tensor import I32, Array, QuantParams
from passes._int8_scheme import Scheme

SAME = 1e-2  # of a step, between numbers that are the same but for the arithmetic of their scales
LARGEST_BIAS = 2.0**30  # steps: half of what int32 holds, so that sums of products fit beside it


def annotate_weights(graph: Graph, scheme: Scheme) -> tuple[int, int]:
    """Give the weights and biases of all layers that have quantized operands their parameters; returns how many, and
    how many of them were stored with others before that lose something."""
    count = again = 0
    for node in list(graph.nodes):
        found, x = scheme.weight_of(node), node.inputs[0]
        if found is None or x is None or (x.type.quant is None and found[0].type.quant is None):
            continue
        weight, index, axis = found
        bias = node.inputs[index + 1] if index + 1 < len(node.inputs) else None
        held = bias if bias is not None and bias.data is not None else None
        step = None if x.type.quant is None else x.type.quant.scale[0]
        params = _params_for(weight, axis, step, None if held is None else held.data)
        again += _loses(weight, params)
        _annotate(graph, node, index, params)
        count += 1
        if held is not None and step is not None and node.op.name != "conv_transpose":
            again += _loses(held, bias_params(step, params))
            _annotate(graph, node, index + 1, bias_params(step, params))
            count += 1
    return count, again


def _loses(v: Value, params: QuantParams) -> bool:
    """Whether a constant that was stored with other parameters is not to the same numbers with these."""
    if v.type.quant in (None, params) or v.data is None or params.axis is None:
        return False
    scale = np.array(params.scale).reshape([-1 if i == params.axis else 1 for i in range(v.data.ndim)])
    off = dequantized(quantized(v.data, params, narrow=params.dtype.bits == 8), params) - v.data
    return bool((np.abs(off) > SAME * scale).any())


def _params_for(weight: Value, axis: int, step: float | None, bias: Array | None) -> QuantParams:
    given, data = weight.type.quant, np.asarray(weight.data)
    kept = None if given is None else kept_params(data, given, axis)
    if step is None:
        return symmetric(peaks_along(data, axis), axis) if kept is None else kept
    return kept if kept is not None and _fits(kept, step, bias) else weight_params(data, axis, step, bias)


def kept_params(data: Array, given: QuantParams, axis: int) -> QuantParams | None:
    """Symmetric parameters along an axis that lose least of what is stored with others: their scales, where all numbers
    are within 127 steps of 0, or where it costs less to saturate what is not than to round all to longer steps. None if
    those scales are along another axis."""
    if given.block is not None or given.axis not in (None, axis):
        return None
    peaks = peaks_along(data, axis).astype(np.float64)
    scales = np.broadcast_to(np.array(given.scale, np.float64), peaks.shape)
    own = symmetric(np.maximum(peaks, scales * 127), axis)
    kept = own._replace(scale=tuple(float(np.float32(s)) for s in scales))
    others = tuple(i for i in range(data.ndim) if i != axis)
    losses = [np.square(dequantized(quantized(data, p, narrow=True), p) - data).sum(others) for p in (kept, own)]
    return kept._replace(scale=tuple(np.where(losses[0] <= losses[1], kept.scale, own.scale).tolist()))


def _fits(params: QuantParams, step: float, bias: Array | None) -> bool:
    """Whether a bias has at most as many steps of the products as it may have."""
    if bias is None or bias.size != len(params.scale):
        return True
    return bool((np.abs(bias.reshape(-1).astype(np.float64)) <= step * np.array(params.scale) * LARGEST_BIAS).all())


def weight_params(data: Array, axis: int, step: float, bias: Array | None) -> QuantParams:
    """Symmetric parameters along an axis, coarse enough for the bias to fit into int32; `step` is the scale of what is
    multiplied."""
    peaks = peaks_along(data, axis).astype(np.float64)
    peaks[peaks == 0] = peaks.max(initial=0.0)
    if bias is not None and bias.size == peaks.size:
        peaks = np.maximum(peaks, np.abs(bias.reshape(-1).astype(np.float64)) / (step * LARGEST_BIAS) * 127)
    return symmetric(peaks, axis)


def bias_params(step: float, weights: QuantParams) -> QuantParams:
    """The parameters of a bias: the step of the products."""
    scales = tuple(float(np.float32(step) * np.float32(s)) for s in weights.scale)
    return QuantParams(scales, (0,) * len(scales), None if weights.axis is None else 0, I32)


def _annotate(graph: Graph, node: Node, index: int, params: QuantParams) -> None:
    """A constant that layers read with other parameters becomes one of its own for this layer."""
    v = node.inputs[index]
    assert v is not None and v.data is not None
    if v.type.quant not in (None, params) or (v.type.quant is None and len(v.users) > 1):
        own = graph.const(v.data, v.name, v.origin)
        own.type = v.type
        graph.set_operand(node, index, own)
        v = own
    v.type = v.type._replace(quant=params)

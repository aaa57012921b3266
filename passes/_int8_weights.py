"""Parameters of weights and biases: symmetric, one scale for each result; a bias has the step of the products."""

from __future__ import annotations

import numpy as np

from compiler.graph import Graph, Node
from compiler.quantize import peaks_along, symmetric
from compiler.tensor import I32, Array, QuantParams
from passes._int8_scheme import Scheme

LARGEST_BIAS = 2.0**30  # steps: half of what int32 holds, so that sums of products fit beside it


def annotate_weights(graph: Graph, scheme: Scheme) -> int:
    """Give the weights and biases of all layers that have quantized operands their parameters; returns how many."""
    count = 0
    for node in list(graph.nodes):
        found, x = scheme.weight_of(node), node.inputs[0]
        if found is None or x is None or x.type.quant is None:
            continue
        weight, index, axis = found
        bias = node.inputs[index + 1] if index + 1 < len(node.inputs) else None
        held = bias if bias is not None and bias.data is not None else None
        step = x.type.quant.scale[0]
        params = weight_params(np.asarray(weight.data), axis, step, None if held is None else held.data)
        _annotate(graph, node, index, params)
        count += 1
        if held is not None and node.op.name != "conv_transpose":
            _annotate(graph, node, index + 1, bias_params(step, params))
            count += 1
    return count


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

"""Mean errors of layers, and biases that take them away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.ops.conv import Convolution
from compiler.ops.matmul import Dense
from compiler.simulate import simulated
from compiler.tensor import Array, QuantParams
from passes._fitted import data_of, set_data
from passes._int8_weights import bias_params
from passes._repair import Rows


def has_bias(node: Node) -> bool:
    """Whether a layer adds a constant to each channel of its result, or could."""
    if not isinstance(node.op, Convolution | Dense) or any(v is not None and v.data is None for v in node.inputs[1:]):
        return False
    return node.output.type.quant is not None and node.output.type.is_static


def mean_errors(graph: Graph, floats: Graph, rows: Rows) -> dict[int, Array]:
    """By the place of a layer: what its result lacks on average, for each channel, when all layers before it are
    quantized and have been given what theirs lacked. Layers that share a bias have one error. `floats` are the same
    layers with the weights as they were."""
    places = [i for i, n in enumerate(graph.nodes) if has_bias(n)]
    nodes, originals = list(graph.nodes), list(floats.nodes)
    wanted = _means(rows, floats, [originals[i].output for i in places])
    made = simulated(graph)
    raw = [_raw(made.values[nodes[i].output]) for i in places]
    stages = rows.stages(made.graph, raw)
    found: dict[int, Array] = {}
    sent: list[Array] | None = None
    for i, v, expected in zip(places, raw, wanted, strict=True):
        given = stages.send(sent)
        axis = axis_of(v.node)
        lacking = _likely(expected - np.stack([_mean(a, axis) for a in given]))
        found[i] = lacking
        shape = [-1 if k == axis else 1 for k in range(v.type.rank)]
        sent = [a + lacking.reshape(shape).astype(a.dtype) for a in given]
    return _shared(nodes, found)


def _shared(nodes: Sequence[Node], errors: dict[int, Array]) -> dict[int, Array]:
    """Layers with the same weights and bias, such as the steps of a recurrent one, keep the same bias and get the mean
    of their errors; those that have no bias do not get one."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for i in errors:
        alike.setdefault(tuple(id(v.data) for v in nodes[i].inputs[1:] if v is not None), []).append(i)
    means: dict[int, Array] = {}
    for (_, *bias), places in alike.items():
        if len(places) == 1 or bias:
            mean = np.mean([errors[i] for i in places], axis=0)
            means.update((i, mean) for i in places)
    return means


def axis_of(node: Node | None) -> int:
    """The axis of a layer's result that has a bias for each place."""
    assert node is not None
    return 1 if isinstance(node.op, Convolution) else node.output.type.rank - 1


def add_to_bias(graph: Graph, node: Node, delta: Array) -> None:
    """Add to the bias of a layer, or give it one, stored as the layer's integers are."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        set_data(graph, node, 2, data_of(node.inputs[2]) + delta)
        return
    x, w = node.inputs[:2]
    assert x is not None
    assert w is not None
    bias = graph.const(delta.astype(w.type.dtype.numpy))
    bias.type = bias.type._replace(quant=_stored(x, w))
    old = node.output
    (new,) = graph.add(node.op, x, w, bias, before=node, origin=node.origin, names=[old.name])
    new.type = old.type
    graph.replace(old, new)
    graph.erase(node)


def _stored(x: Value, w: Value) -> QuantParams | None:
    return bias_params(x.type.quant.scale[0], w.type.quant) if x.type.quant and w.type.quant else None


def _raw(v: Value) -> Value:
    """The layer's result before it is rounded."""
    while v.node is not None and v.node.op.name in ("quantize_linear", "dequantize_linear"):
        before = v.node.inputs[0]
        assert before is not None
        v = before
    return v


def _means(rows: Rows, graph: Graph, values: Sequence[Value]) -> list[Array]:
    """The mean of each channel in each row, [rows, channels], of each value."""
    axes = [axis_of(v.node) for v in values]
    means = [[_mean(a, axis) for a, axis in zip(row, axes, strict=True)] for row in rows.each(graph, values)]
    return [np.stack(column) for column in zip(*means, strict=True)]


def _mean(array: Array, axis: int) -> Array:
    return np.asarray(array.mean(tuple(i for i in range(array.ndim) if i != axis), dtype=np.float64))


def _likely(differences: Array) -> Array:
    """The mean over rows, less so the less certain it is (positive-part shrinkage of James and Stein)."""
    mean = differences.mean(0)
    if len(differences) < 2:
        return np.asarray(mean)
    doubt = differences.var(0, ddof=1) / len(differences)
    return np.asarray(mean * np.maximum(0.0, 1.0 - doubt / np.maximum(np.square(mean), 1e-30)))

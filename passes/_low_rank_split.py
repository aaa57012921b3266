"""A layer split into several, in a graph, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from compiler.graph import NOWHERE, Graph, Value
from compiler.ops.matmul import Dense
from compiler.pass_base import replace_layer
from compiler.rewrite import Builder, Observer, Unobserved
from compiler.tensor import Array
from passes._compression import Cost, Work, work_of
from passes._fitted import set_data
from passes._low_rank_forms import Form, Ranks
from passes._low_rank_layers import Layer


class Plan(NamedTuple):
    """A layer and how it is split."""

    layer: Layer
    form: Form
    ranks: Ranks


class Weights(NamedTuple):
    """Constants of the layers of a split, [results, inputs, *kernel] each, and the bias of the last one."""

    arrays: list[Array]
    bias: Array | None


class Split:
    """The layers of a plan in a graph, in front of the layer whose place they take once they are `settle`d."""

    def __init__(self, graph: Graph, plan: Plan, weights: Weights) -> None:
        self.graph = graph
        self.plan = plan
        layer = plan.layer
        g = Builder(graph, layer.node, layer.node.origin)
        values = [g.const(a, like=layer.weight) for a in _stored(layer, weights.arrays)]
        bias = None if weights.bias is None else g.const(weights.bias.astype(layer.weight.type.dtype.numpy))
        self.result = plan.form.build(g, layer, layer.data, values, bias)
        self.nodes = tuple(g.added)
        self.result.name = layer.name
        for i, node in enumerate(self.nodes[:-1]):
            node.outputs[0].name = f"{layer.name}/part{i}"

    def settle(self, rule: str = "split", observer: Observer | None = None) -> bool:
        """Replace the layer; False, and nothing has changed, if the observer allows no more."""
        old = self.plan.layer.node.outputs[0]
        observer = Unobserved() if observer is None else observer
        return replace_layer(self.graph, rule, [old], [self.result], self.nodes, observer) is not None

    @property
    def data(self) -> Value:
        """What the first layer reads."""
        v = self.nodes[0].inputs[1 if self.plan.layer.is_table else 0]
        assert v is not None
        return v

    def set(self, weights: Weights) -> None:
        """Let the layers have other weights, of the same ranks, with a bias only if there is one already."""
        for node, array in zip(self.nodes, _stored(self.plan.layer, weights.arrays), strict=True):
            set_data(self.graph, node, 0 if node.inputs[0] is not None and node.inputs[0].is_const else 1, array)
        if weights.bias is not None:
            set_data(self.graph, self.nodes[-1], 2, weights.bias)


def _stored(layer: Layer, arrays: Sequence[Array]) -> list[Array]:
    """Weights as the layers keep them."""
    op = layer.node.op
    flipped = not layer.is_conv and not (isinstance(op, Dense) and op.transposed)
    made = [a.T if flipped else a for a in arrays]
    return [np.ascontiguousarray(a).astype(layer.weight.type.dtype.numpy) for a in made]


def work_before(layer: Layer, cost: Cost) -> Work:
    """The work of a layer as it is."""
    return work_of([layer.node], cost)


def work_after(layer: Layer, form: Form, ranks: Ranks, cost: Cost, biased: bool) -> Work:
    """The work of the layers that it would be split into, with a bias or without; none is made."""
    graph = Graph()
    types = [v.type for v in (layer.data, layer.weight)]
    x, w = (graph.add_input(t, n) for t, n in zip(types, "xw", strict=True))
    (end,) = graph.add(layer.node.op, *((w, x) if layer.is_table else (x, w)))
    assert end.node is not None
    g = Builder(graph, end.node, NOWHERE)
    zero = np.zeros((), layer.weight.type.dtype.numpy)
    flipped = not layer.is_conv and not getattr(layer.node.op, "transposed", False)
    shapes = form.shapes(layer.tensor.shape, ranks)
    weights = [graph.const(np.broadcast_to(zero, s[::-1] if flipped else s)) for s in shapes]
    bias = graph.const(np.broadcast_to(zero, layer.tensor.shape[:1])) if biased else None
    form.build(g, layer, x, weights, bias)
    return work_of(g.added, cost)

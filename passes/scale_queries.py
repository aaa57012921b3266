"""Multiply the scale of an attention into the weights that its queries come from.

softmax(c q k) v with q = x W + b is softmax(q' k) v with q' = x (c W) + c b (A. Vaswani et al., arXiv:1706.03762, scale
the product).
"""

from __future__ import annotations

from compiler.graph import Graph, Node
from compiler.ops.attention import Attention
from compiler.pass_base import Pass, replace_layer
from compiler.rewrite import Builder, Observer
from passes._bc1s_scale import Rows, scalable
from passes._fitted import data_of, set_data


class ScaleQueries(Pass):
    """Attentions whose queries come from dense layers get a scale of 1. Weights are copied."""

    def run(self, graph: Graph, observer: Observer) -> int:
        fired = 0
        for node in graph.of(Attention):
            rows = scalable(node)
            fired += rows is not None and _scaled(graph, node, rows, observer)
        return fired


def _scaled(graph: Graph, node: Node, rows: Rows, observer: Observer) -> bool:
    op = node.op
    assert isinstance(op, Attention)
    g = Builder(graph, node, node.origin)
    new = g.add(op.with_(scale=1.0), *node.inputs)
    if replace_layer(graph, "queries", [node.output], [new], g.added, observer) is None:
        return False
    for dense, factors in rows.items():
        along = (-1, 1) if getattr(dense.op, "transposed", False) else (1, -1)
        for i, v in enumerate(dense.inputs[1:], 1):
            if v is not None:
                data = data_of(v)
                set_data(graph, dense, i, data * factors.reshape(along if data.ndim == 2 else -1))
    return True

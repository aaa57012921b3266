"""Compute the queries, keys and values of an attention as one product that gives their heads.

Dense layers of one input x, split into heads that are moved in front of the sequence, become one. Wide heads are a
product of x [B,1,S,K] and weights [H,K,D], which needs no transpose (Vaswani et al., arXiv:1706.03762, section 3.2.2).
Narrow ones would waste the tiles of a product: all heads of their dense layer are moved at once. The attention's scale
merges into the weights of the queries.
"""

from __future__ import annotations

from compiler.graph import Graph, Node, Value
from compiler.ops.attention import Attention
from compiler.ops.elementwise import Add
from compiler.ops.matmul import Dense, MatMul
from compiler.ops.parts import Split
from compiler.ops.shape import Reshape, Transpose
from compiler.pass_base import Pass, replace_layer
from compiler.rewrite import Builder, Observer
from passes._heads import HEADS_FIRST, Projection, alike, joined, projection, whole


class ProjectHeads(Pass):
    """Dense layers, reshapes and transposes before an attention become one layer and a split.

    min_width   features of a head from which it is computed by a product of its own
    """

    min_width: int = 64

    def run(self, graph: Graph, observer: Observer) -> int:
        return sum(self._projected(graph, node, observer) for node in graph.of(Attention))

    def _projected(self, graph: Graph, node: Node, observer: Observer) -> bool:
        parts = [p for v in node.inputs[:3] if v is not None and (p := projection(v)) is not None]
        if len(parts) < 3 or len(set(node.inputs[:3])) < 3 or not whole(parts):
            return False
        groups, scale = alike(parts), node.op.scale  # type: ignore[attr-defined]  # an attention
        if scale == 1 and len(groups) == 3 and all(p.weight.shape[2] < self.min_width for p in parts):
            return False
        g = Builder(graph, node, node.origin.union(*(p.node.origin for p in parts)))
        parts[0] = parts[0].scaled(scale)
        heads: dict[int, Value] = {}
        for group in groups:
            heads.update(zip(group, self._heads(g, [parts[i] for i in group]), strict=True))
        y = g.add(node.op.with_(scale=1.0), *(heads[i] for i in range(3)), *node.inputs[3:])
        return replace_layer(graph, "projection", node.outputs, [y], g.added, observer) is not None

    def _heads(self, g: Builder, parts: list[Projection]) -> tuple[Value, ...]:
        x, (weight, bias), sizes = parts[0].x, joined(parts), tuple(p.weight.shape[1] for p in parts)
        (batch, length, inner), (_, count, width) = x.type.dims, weight.shape
        if width >= self.min_width:
            lifted = g.add(Reshape(shape=(batch, 1, length, inner)), x)
            y = g.add(MatMul(), lifted, g.const(weight.transpose(1, 0, 2)[None]))
            y = y if bias is None else g.add(Add(), y, g.const(bias[None, :, None]))
        else:
            constants = [g.const(a.reshape(*a.shape[:-2], -1)) for a in (weight, bias) if a is not None]
            rows = g.add(Dense(), x, *constants)
            y = g.add(Transpose(perm=HEADS_FIRST), g.add(Reshape(shape=(batch, length, count, width)), rows))
        return (y,) if len(parts) == 1 else g.add_many(Split(axis=1, sizes=sizes), y)

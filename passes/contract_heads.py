"""Let the layer behind an attention read its heads where they lie.

A dense layer of heads that are moved behind the sequence and laid side by side sums over heads and features, which is a
convolution over [B,D,H,S] with a kernel that spans all heads: sum over h, d of o[b,h,s,d] w[h,d,n].
"""

from __future__ import annotations

from compiler.graph import Graph, Node
from compiler.ops.conv import Conv
from compiler.ops.matmul import Dense
from compiler.ops.shape import Reshape, Transpose
from compiler.pass_base import Pass, replace_layer
from compiler.rewrite import Builder, Observer
from passes._heads import attended, dense_parameters


class ContractHeads(Pass):
    """Transpose, reshape and dense layer after an attention become a convolution, for targets that compute them
    channels-last: there neither of the transposes around it moves anything."""

    def run(self, graph: Graph, observer: Observer) -> int:
        return sum(_contracted(graph, node, observer) for node in graph.of(Dense))


def _contracted(graph: Graph, node: Node, observer: Observer) -> bool:
    rows, parameters = node.inputs[0], dense_parameters(node)
    heads = None if rows is None or parameters is None else attended(rows)
    if heads is None or parameters is None or heads.node is None:
        return False
    (weight, bias), (_, count, _, width) = parameters, heads.type.dims
    g = Builder(graph, node, node.origin)
    kernel = weight.reshape(count, width, -1).transpose(2, 1, 0)[..., None]
    constants = [g.const(a) for a in (kernel, bias) if a is not None]
    y = g.add(
        Conv(strides=(1, 1), pads=(0,) * 4, dilations=(1, 1)),
        g.add(Transpose(perm=(0, 3, 1, 2)), heads),
        *constants,
    )
    y = g.add(Reshape(shape=node.output.type.shape), g.add(Transpose(perm=(0, 2, 3, 1)), y))
    return replace_layer(graph, "contraction", node.outputs, [y], g.added, observer) is not None

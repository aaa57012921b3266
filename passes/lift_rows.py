"""Give sequences [B,S,N] a fourth axis, [B,1,S,N], in all layers that treat each row by itself.

Projections to heads [B,H,S,D] and from them read and give such rows: no reshape is left between them and other layers.
"""

from __future__ import annotations

from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ops.attention import Attention
from compiler.ops.matmul import Dense
from compiler.ops.norm import LayerNorm, RmsNorm
from compiler.ops.shape import Reshape
from compiler.pass_base import ErrorClass, Pass, replace_layer
from compiler.rewrite import Builder, Observer
from passes._chains import UNARY
from passes._selection import MIXING

NORMS: tuple[type[Op], ...] = (LayerNorm, RmsNorm)


class LiftRows(Pass):
    """Dense layers, normalisations, and functions of elements that follow them, of rank 3 in graphs with attention."""

    error_class = ErrorClass.EXACT

    def run(self, graph: Graph, observer: Observer) -> int:
        lifted: dict[Value, Value] = {}
        nodes = list(graph.nodes) if graph.of(Attention) else []
        fired = sum(_lifted(graph, node, lifted, observer) for node in nodes)
        graph.erase_unread([v.node for v in lifted if v.node is not None])
        return fired


def _lifted(graph: Graph, node: Node, lifted: dict[Value, Value], observer: Observer) -> bool:
    mixes, normal = type(node.op) in MIXING, type(node.op) in NORMS
    follows = (mixes or type(node.op) in UNARY) and any(v in lifted for v in node.inputs)
    if len(node.outputs) != 1 or node.output.type.rank != 3 or not node.output.type.is_static:
        return False
    if not follows and type(node.op) is not Dense and not (normal and node.op.axis == 2):  # type: ignore[attr-defined]  # of a norm
        return False
    g = Builder(graph, node, node.origin)
    operands = [_rows(g, v, lifted) if mixes or i == 0 else v for i, v in enumerate(node.inputs)]
    y = g.add(node.op.with_(axis=3) if normal else node.op, *operands)
    back = g.add(Reshape(shape=node.output.type.shape), y)
    if replace_layer(graph, "rows", node.outputs, [back], g.added, observer) is not None:
        lifted[back] = y
    return back in lifted


def _rows(g: Builder, v: Value | None, lifted: dict[Value, Value]) -> Value | None:
    """An operand with the axis; one of lower rank is broadcast as it is."""
    if v is None or v.type.rank < 3:
        return v
    if v.data is not None:
        return g.const(v.data[:, None], like=v)
    if v not in lifted:
        lifted[v] = g.add(Reshape(shape=(v.type.shape[0], 1, *v.type.shape[1:])), v)
    return lifted[v]

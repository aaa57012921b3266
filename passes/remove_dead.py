"""Remove layers that nobody reads, and results of layers that are computed for nobody."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.graph import Graph, Node
from compiler.ops.pool import MaxPool
from compiler.pass_base import ErrorClass, Pass, replace_layer
from compiler.rewrite import Firing, Observer


class RemoveDead(Pass):
    """Layers without readers; the indices of a MaxPool that nobody asks for."""

    error_class = ErrorClass.EXACT

    def run(self, graph: Graph, observer: Observer) -> int:
        fired = 0
        for root in list(_dead(graph)):
            if not observer.allow():
                return fired
            erased = tuple(graph.erase_unread([root]))
            if erased:
                observer.fired(Firing("dead", erased, (), (), (), ()))
                fired += 1
        for node in graph.of(MaxPool):
            if len(node.outputs) == 2 and not node.outputs[1].is_read:
                fired += _without_indices(graph, node, observer)
        return fired


def _dead(graph: Graph) -> Iterator[Node]:
    """Layers of which no result is read."""
    return (node for node in graph.nodes if not any(v.is_read for v in node.outputs))


def _without_indices(graph: Graph, node: Node, observer: Observer) -> bool:
    """Let a plain pool take the place of one with indices."""
    if not observer.allow():
        return False
    (new,) = graph.add(node.op.with_(indices=False, storage_order=0), *node.inputs, before=node, origin=node.origin)
    assert new.node is not None
    unread = node.outputs[1]
    return replace_layer(graph, "indices", node.outputs, (new, unread), (new.node,), observer) is not None

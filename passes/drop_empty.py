"""Compute layers on tensors without elements before the model runs, and join without them.

A result without elements is a constant; so is that of a layer whose operands are constants or have none (a sum over
nothing is 0). A concatenation reads only what has elements.
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass, replace_layer
from compiler.rewrite import Observer
from passes._empty import is_empty, joined, known

__all__ = ["DropEmpty", "is_empty"]


class DropEmpty(Pass):
    """Tensors without elements, and the layers that read or compute them."""

    error_class = ErrorClass.EXACT

    def run(self, graph: Graph, observer: Observer) -> int:
        fired = 0
        for node in graph.nodes:
            new = known(graph, node) or joined(graph, node)
            if new is None:
                continue
            old = [v for v in node.outputs if len(new) == len(node.outputs) or is_empty(v)]
            added = [v.node for v in new if v.node is not None]
            if replace_layer(graph, "empty", old, new, added, observer) is None:
                graph.erase_unread(added)
                break
            fired += 1
        return fired

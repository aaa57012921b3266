"""Store floats of 32 bits in 16: layers read and give halves, inputs and outputs of the model keep their types.

Layers for which 16 bits are wrong whatever the data stay as they are: see `passes/_halves.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from compiler.graph import Graph, Node
from compiler.pass_base import ErrorClass, Pass, replace_layer
from compiler.rewrite import Builder, Observer
from passes._halves import Halves, is_narrowed, kept


class StoreHalves(Pass):
    """Layers that would not be ones for which `takes` holds stay in 32 bits; without it, those alone whose operation
    has no halves."""

    error_class = ErrorClass.LOSSY
    takes: Callable[[Node], bool] | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        wide, halves, fired = kept(graph), Halves(graph), 0
        for node in [n for n in graph.nodes if n not in wide and is_narrowed(n)]:
            b = Builder(graph, node, node.origin)
            new = halves.layer(node, b, self.takes)
            if new is None:
                b.undo()
            elif replace_layer(graph, "halve", node.outputs, new, b.added, observer) is None:
                break
            else:
                fired += 1
        return fired

    def __str__(self) -> str:
        return self.pass_name()

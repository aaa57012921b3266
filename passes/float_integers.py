"""Compute in floats what small integers are computed from booleans, where intervals prove that floats are exact.

Accelerators of 16-bit floats count to 2048 without a gap; integers of 32 bits they leave to other processors."""

from __future__ import annotations

from compiler.graph import Graph, Node
from compiler.ops.elementwise import Cast
from compiler.pass_base import ErrorClass, Pass, replace_layer
from compiler.rewrite import Builder, Observer
from compiler.tensor import BOOL
from passes._floats import INTEGERS, Floats


class FloatIntegers(Pass):
    """Counts, masks and positions of at most `most`, from where booleans become integers to where these become floats
    or are compared; what else reads the integers keeps them."""

    error_class = ErrorClass.EXACT
    adds_work = True
    most: int = 2048

    def run(self, graph: Graph, observer: Observer) -> int:
        if not any(_is_start(node) for node in graph.of(Cast)):
            return 0
        floats, fired, added = Floats(graph, self.most), 0, list[Node]()
        for node in [n for n in graph.nodes if n in floats.chosen]:
            b = Builder(graph, node, node.origin)
            new = floats.layer(node, b)
            added += b.added
            if node.output.type.dtype in INTEGERS:
                continue
            if replace_layer(graph, "float", node.outputs, new, added, observer) is None:
                break
            fired += 1
            added = []
        return fired


def _is_start(node: Node) -> bool:
    (x,) = node.input_types
    return x is not None and x.dtype is BOOL and node.output.type.dtype in INTEGERS

"""Let broadcasting layers read what was expanded for them.

f(expand(x), y) = f(x, y) if x and y broadcast to the same shape without it; a tile of dimensions of 1 is an expansion.
"""

from __future__ import annotations

from compiler.errors import ShapeError
from compiler.graph import Graph, Node, Value
from compiler.op import broadcast
from compiler.ops.elementwise import Nary, Where
from compiler.ops.parts import Tile
from compiler.ops.shape import Expand
from compiler.pass_base import ErrorClass, Pass, replace_layer
from compiler.rewrite import Observer


class RemoveExpand(Pass):
    """Expand, and Tile of dimensions of 1, read by broadcasting elementwise layers."""

    error_class = ErrorClass.EXACT

    def run(self, graph: Graph, observer: Observer) -> int:
        fired = 0
        for node in graph.of(Expand, Tile):
            x = node.inputs[0]
            assert x is not None
            repeats = node.op.repeats if isinstance(node.op, Tile) else ()
            if all(r == 1 or d == 1 for r, d in zip(repeats, x.type.shape, strict=False)):
                readers = [user for user in node.output.users if isinstance(user.op, Nary | Where)]
                fired += sum(_bypass(graph, user, node.output, x, observer) for user in readers)
        return fired


def _bypass(graph: Graph, user: Node, expanded: Value, x: Value, observer: Observer) -> bool:
    inputs = [x if v is expanded else v for v in user.inputs]
    try:
        shape = broadcast(*(v.type.shape for v in inputs if v is not None))
    except ShapeError:
        return False
    if shape != user.output.type.shape:
        return False
    assert expanded.node is not None
    new = graph.add(user.op, *inputs, before=user, origin=user.origin | expanded.node.origin)
    added = [v.node for v in new if v.node is not None]
    if replace_layer(graph, "bypass", user.outputs, new, added, observer) is None:
        graph.erase_unread(added)
        return False
    return True

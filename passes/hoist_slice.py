"""Compute only the part of a sequence that is read.

Where a part of a result is taken and nothing else is read, rows are selected in front of the layers that treat each row
by itself, and in front of the queries of an attention: the last block of a vision transformer then works on its class
token alone, with keys and values of all tokens.
"""

from __future__ import annotations

from compiler.graph import Graph, Node, Value
from compiler.ops.attention import Attention
from compiler.ops.shape import Reshape
from compiler.pass_base import Pass, replace_layer
from compiler.rewrite import Builder, Observer
from passes._selection import Part, part_read, partial


class HoistSlice(Pass):
    """A slice, or a gather of one place, behind layers of rows, in graphs with attention: their work shrinks."""

    def run(self, graph: Graph, observer: Observer) -> int:
        nodes = reversed(list(graph.nodes)) if graph.of(Attention) else ()
        return sum(_hoisted(graph, node, observer) for node in nodes if not node.is_erased and len(node.outputs) == 1)


def only_part(v: Value) -> Part | None:
    """The part of a value that is all that anything reads; None if that is not known, or all of it."""
    found = {part_read(reader, v) for reader in v.users}
    return found.pop() if len(found) == 1 and not v.n_out else None


def _hoisted(graph: Graph, node: Node, observer: Observer) -> bool:
    part, readers = only_part(node.output), tuple(node.output.users)
    g = Builder(graph, node, node.origin.union(*(r.origin for r in readers)))
    y = None if part is None else partial(g, node, part)
    if y is None:
        return False
    old = [r.output for r in readers]
    new = [y if v.type.shape == y.type.shape else g.add(Reshape(shape=v.type.shape), y) for v in old]
    if replace_layer(graph, "part", old, new, g.added, observer) is None:
        g.undo()
        return False
    return True

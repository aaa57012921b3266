"""Compute equal things once: layers with the same operation and operands, and constants with the same bytes.

Layers are numbered by operation, attributes and numbers of their operands in one walk from inputs to outputs (value
numbering: Cocke & Schwartz, Programming Languages and Their Compilers, 1970). Large constants are compared only if
element type, shape and a few elements at either end agree.
"""

from __future__ import annotations

from collections.abc import Hashable

from compiler.graph import Graph, Node
from compiler.pass_base import ErrorClass, Pass, replace_layer
from compiler.rewrite import Firing, Observer
from passes._constants import equal_constants, unite_origins


class EliminateCommon(Pass):
    """Equal constants and equal layers as one."""

    error_class = ErrorClass.EXACT

    def run(self, graph: Graph, observer: Observer) -> int:
        return _merge_constants(graph, observer) + _merge_layers(graph, observer)


def _merge_constants(graph: Graph, observer: Observer) -> int:
    twins = list(equal_constants(graph))
    if not twins or not observer.allow():
        return 0
    for v, first in twins:
        graph.replace(v, first)
    unite_origins(twins)
    old, new = zip(*twins, strict=True)
    observer.fired(Firing("constants", (), (), old, new, ()))
    return 1


def _merge_layers(graph: Graph, observer: Observer) -> int:
    twins: list[tuple[Node, Node]] = []
    seen: dict[Hashable, Node] = {}
    for node in graph.nodes:
        first = seen.setdefault(_key(node), node) if node.op.pure else node
        if first is node:
            continue
        if replace_layer(graph, "layers", node.outputs, first.outputs, (), observer) is None:
            break
        twins.append((node, first))
    unite_origins(twins)
    return len(twins)


def _key(node: Node) -> Hashable:
    operands = tuple(map(id, node.inputs))
    if node.op.commutative and len(operands) > 1 and operands[0] > operands[1]:
        operands = (operands[1], operands[0], *operands[2:])
    return node.op, operands

"""Compute in i32 what is declared i64, where intervals prove that every number fits.

Shapes, indices and counts are i64 in ONNX. Most fit in i32, for which kernels are faster and more of them exist. A
layer is narrowed where its operands are there in 32 bits already, or where it has no kernel for 64.
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass, replace_layer
from compiler.rewrite import Builder, Observer
from compiler.tensor import I64
from passes._narrow import NARROWED, Narrowing


class NarrowIntegers(Pass):
    """i64 as i32 where it is proven to fit. merge-casts and remove-dead clean up behind it."""

    error_class = ErrorClass.EXACT

    def run(self, graph: Graph, observer: Observer) -> int:
        layers = [n for n in graph.nodes if isinstance(n.op, NARROWED)]
        if not any(v is not None and v.type.dtype is I64 for n in layers for v in (*n.inputs, *n.outputs)):
            return 0
        narrowing, fired = Narrowing(graph), 0
        for node in layers:
            b = Builder(graph, node, node.origin)
            new = narrowing.layer(node, b)
            if new is None:
                b.undo()
            elif replace_layer(graph, "narrow", node.outputs, new, b.added, observer) is None:
                b.undo()
                break
            else:
                fired += 1
        return fired

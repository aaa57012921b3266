"""Give what hides scores from a softmax a finite value that the element type has.

Masks are made with -inf, -1e9 or the lowest number of 32 bits. In 16 bits those are infinite, Apple's engine takes no
-inf in a softmax, and exp(-40000) is 0 as well (mask_minus_40000 in targets/apple/substitutions.json). Results differ
only in rows in which nothing is seen: those are NaN with -inf. An attention, which gives 0 there, keeps its -inf.
"""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.pass_base import Pass, replace_layer
from compiler.rewrite import Observer
from passes._masks import hiding, is_switch

FINDS = (ops.Add, ops.Where, ops.Mul)
ENDS = (ops.Softmax, ops.Attention)


class BoundMasks(Pass):
    """Constants below -`largest` become `hidden` where all that is made of them is a softmax's operand. One firing for
    all of a graph, measured at what the softmaxes give."""

    largest: float = 65504.0
    hidden: float = -40000.0

    def run(self, graph: Graph, observer: Observer) -> int:
        finite, infinite = hiding(graph), hiding(graph, attention=False)
        twins: dict[Value, Value] = {}
        old, new, added = list[Value](), list[Value](), list[Node]()
        for node in list(graph.nodes):
            operands = [twins.get(v, v) if v is not None else None for v in node.inputs]
            if isinstance(node.op, FINDS) and node.output in finite:
                bounded = [self._bounded(graph, node, v, node.output in infinite) for v in node.inputs]
                operands = [b or v for b, v in zip(bounded, operands, strict=True)]
            if operands == list(node.inputs):
                continue
            names = [v.name for v in node.outputs]
            values = graph.add(node.op, *operands, before=node, origin=node.origin, names=names)
            assert values[0].node is not None
            added.append(values[0].node)
            if isinstance(node.op, ENDS):
                old, new = [*old, *node.outputs], [*new, *values]
            else:
                twins.update(zip(node.outputs, values, strict=True))
        return int(bool(old) and replace_layer(graph, "mask", old, new, added, observer) is not None)

    def _bounded(self, graph: Graph, node: Node, v: Value | None, infinite: bool) -> Value | None:
        """A constant that hides, bounded; None for what stays."""
        if v is None or v.data is None or not v.type.dtype.is_float or not 0 < v.data.size <= 1 << 26:
            return None
        least = float(v.data.min())  # NaN if one of them is
        if not least < -self.largest or not (infinite or least > -np.inf):
            return None
        if isinstance(node.op, ops.Mul) and not all(x is v or (x is not None and is_switch(x)) for x in node.inputs):
            return None
        return graph.const(np.where(v.data < -self.largest, v.data.dtype.type(self.hidden), v.data), v.name, v.origin)

"""Turn Q and DQ layers into annotations: the value between them is stored in the integers that they say.

Both layers go where they have the same scale and zero point, one for the whole tensor, and nobody reads the number
that is rounded. A clip before them goes too where the integers saturate no later. At the inputs and results of the
model they stay and tell what the integers of the ports stand for; the others stay and are computed.
"""

from __future__ import annotations

from compiler import ops
from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Firing, Meter, Observer
from passes._qdq_absorb import annotate_port, pair, port, swap

LAYERS = (ops.QuantizeLinear, ops.DequantizeLinear)


class AbsorbQdq(Pass):
    """For targets that round where values are annotated. A value that has other parameters already is copied."""

    error_class = ErrorClass.LOSSY

    def run(self, graph: Graph, observer: Observer) -> int:
        if not graph.of(*LAYERS):
            return 0
        swapped = 0
        for node in list(graph.of(*LAYERS)):
            done = swap(graph, node, observer)
            if done is None:
                break
            swapped += done
        inputs = sum(map(annotate_port, graph.of(ops.DequantizeLinear)))
        pairs = 0
        for node in list(graph.nodes):
            if node.is_erased or not isinstance(node.op, ops.DequantizeLinear):
                continue
            done = pair(graph, node, observer)
            if done is None:
                break
            pairs += done
        ports = inputs + sum(map(annotate_port, graph.of(ops.QuantizeLinear)))
        if ports:
            observer.fired(Firing(f"{ports} ports", (), (), (), (), ()))
        if isinstance(observer, Meter):
            left = sum(port(node) is None for node in graph.of(*LAYERS))
            observer.measured("qdq", {"pairs": pairs, "ports": ports, "left": left})
        return swapped + pairs + bool(ports)

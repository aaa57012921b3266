"""Say in which integers values are stored: int8 with one scale and zero point for each value, weights per channel.

The ranges come from calibration, the demands from the target's scheme. Values that layers must not rescale share a
scale (`_int8_groups`); the numbers that a value stands for, and the layers, stay as they are.
"""

from __future__ import annotations

from compiler.graph import Graph, Value
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Firing, Meter, Observer
from passes._int8_groups import Groups
from passes._int8_scheme import Calibrate, Ranges, Scheme
from passes._int8_weights import annotate_weights


class AnnotateInt8(Pass):
    """Quantization of a whole graph by a target's `scheme` and the ranges that `calibrate` saw. Without either the
    pass does nothing."""

    error_class = ErrorClass.EXACT
    scheme: Scheme | None = None
    calibrate: Calibrate | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        if self.scheme is None or self.calibrate is None or not observer.allow():
            return 0
        values = annotated(graph, self.calibrate(graph), self.scheme)
        weights = annotate_weights(graph, self.scheme)
        if isinstance(observer, Meter):
            observer.measured("int8", {"values": values, "weights": weights})
        observer.fired(Firing(f"{values} values, {weights} weights", (), (), (), (), ()))
        return 1

    def __str__(self) -> str:
        return self.pass_name()


def annotated(graph: Graph, ranges: Ranges, scheme: Scheme) -> int:
    """Write the parameters of values that a layer of integers computes or reads; returns how many have some."""
    groups = Groups(ranges, scheme)
    groups.solve(graph)
    values: list[Value] = [*graph.inputs, *(v for n in graph.nodes for v in n.outputs)]
    count = 0
    for v in values:
        near = [*([v.node] if v.node else []), *v.users]
        if v in groups and any(map(scheme.is_integer, near)):
            v.type = v.type._replace(quant=groups[v])
            count += 1
    return count

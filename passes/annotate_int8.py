"""Say in which integers values are stored: int8 with one scale and zero point for each value, weights per channel.

The ranges come from calibration, the demands from the target's scheme. Values that layers must not rescale share a
scale (`_int8_groups`); the numbers that a value stands for, and the layers, stay as they are. What is annotated before,
by an imported model, keeps its scale.
"""

from __future__ import annotations

from compiler.graph import Graph, Value
from compiler.pass_base import ErrorClass, Pass
from compiler.quantize import represented
from compiler.rewrite import Firing, Meter, Observer
from passes._int8_groups import Groups
from passes._int8_scheme import Calibrate, Ranges, Scheme
from passes._int8_weights import annotate_weights


class AnnotateInt8(Pass):
    """Quantization of a whole graph by a target's `scheme` and the ranges that `calibrate` saw; without those, of what
    the given annotations suffice for. Without a scheme, or with neither, the pass does nothing. `saturate`: leave
    numbers out of ranges that 8 bits show nothing of."""

    error_class = ErrorClass.EXACT
    scheme: Scheme | None = None
    calibrate: Calibrate | None = None
    saturate: bool = True

    def run(self, graph: Graph, observer: Observer) -> int:
        given = {v: represented(v.type.quant) for v in _values(graph) if v.type.quant is not None}
        if self.scheme is None or (self.calibrate is None and not given) or not observer.allow():
            return 0
        seen = {} if self.calibrate is None else self.calibrate(graph)
        values = annotated(graph, {**seen, **given}, self.scheme, self.saturate)
        weights, again = annotate_weights(graph, self.scheme)
        if isinstance(observer, Meter):
            kept = {"given": len(given), "weights_rounded_again": again} if given else {}
            observer.measured("int8", {"values": values, "weights": weights, **kept})
        observer.fired(Firing(f"{values} values, {weights} weights", (), (), (), (), ()))
        return 1

    def __str__(self) -> str:
        return self.pass_name()


def annotated(graph: Graph, ranges: Ranges, scheme: Scheme, saturate: bool = True) -> int:
    """Write the parameters of values that a layer of integers computes or reads; returns how many have some."""
    groups = Groups(ranges, scheme)
    groups.solve(graph, saturate)
    near = {v: [*([v.node] if v.node else []), *v.users] for v in _values(graph) if v in groups}
    found = [v for v, nodes in near.items() if any(map(scheme.is_integer, nodes))]
    for v in found:
        v.type = v.type._replace(quant=groups[v])
    return len(found)


def _values(graph: Graph) -> list[Value]:
    """All but constants."""
    return [*graph.inputs, *(v for n in graph.nodes for v in n.outputs)]

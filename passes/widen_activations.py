"""Store activations in 16 bits instead of 8, symmetric around 0, beside weights of 8 bits.

The scale is that of 8 bits over 128, so that every number of the 8 bits is still there. Values around a layer that has
no kernel of 16 bits keep their 8.
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Firing, Meter, Observer
from passes._int8_scheme import Scheme
from passes._int16 import fit_biases, tied, widen


class WidenActivations(Pass):
    """Of a graph that was annotated by a target's `scheme`; without one the pass does nothing."""

    error_class = ErrorClass.EXACT
    scheme: Scheme | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        if self.scheme is None or not observer.allow():
            return 0
        groups = tied(graph, self.scheme)
        wide = sum(widen(group, self.scheme) for group in groups)
        fit_biases(graph, self.scheme)
        if isinstance(observer, Meter):
            observer.measured("int16", {"values": wide, "in 8 bits": sum(map(len, groups)) - wide})
        observer.fired(Firing(f"{wide} values", (), (), (), (), ()))
        return 1

    def __str__(self) -> str:
        return self.pass_name()

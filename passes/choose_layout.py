"""Choose the order in which each value lies in memory, so that conversions between orders move the fewest bytes.

A value keeps its logical shape; `TensorType.layout` says how it lies, and a convert_layout stands where a reader needs
another order. A transpose may give its result where it lies (`is_free`). The choice is a minimum cut of a graph of
layers (D. M. Greig et al., Exact maximum a posteriori estimation, 1989).
"""

from __future__ import annotations

from compiler.errors import UsageError
from compiler.graph import Graph, Node
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Firing, Meter, Observer
from passes._layout_apply import LayoutReport, is_free, outline, physical_perm, strip, write
from passes._layout_frames import CHANNELS_LAST, DENSE, TRAILING, Demands
from passes._layout_search import cheapest

__all__ = ["ChooseLayout", "LayoutReport", "is_free", "physical_perm"]


class ChooseLayout(Pass):
    """Orders in memory by minimum cut; `inputs` and `outputs` of the graph: keep, nhwc or free.

    channels_last, trailing, logical, dense   operations that the target runs in some orders only: see Demands
    """

    error_class = ErrorClass.EXACT
    inputs: str = "keep"
    outputs: str = "keep"
    channels_last: tuple[str, ...] = CHANNELS_LAST
    trailing: tuple[str, ...] = TRAILING
    logical: tuple[str, ...] = ()
    dense: tuple[str, ...] = DENSE

    def validate(self) -> None:
        if not {self.inputs, self.outputs} <= {"keep", "nhwc", "free"}:
            raise UsageError(f"inputs={self.inputs!r}, outputs={self.outputs!r}: each is one of keep, nhwc, free")

    def run(self, graph: Graph, observer: Observer) -> int:
        if not observer.allow():
            return 0
        before = outline(graph)
        gone, added, report = self.choose(graph)
        if isinstance(observer, Meter):
            observer.measured("transposes", report.numbers())
        if outline(graph) == before:
            return 0
        observer.fired(Firing(str(report), tuple(gone), tuple(added), (), (), ()))
        return 1

    def report(self, graph: Graph) -> LayoutReport:
        """What this pass does to a graph, which stays as it is."""
        return self.choose(graph.clone())[2]

    def choose(self, graph: Graph) -> tuple[list[Node], list[Node], LayoutReport]:
        """Annotate a graph anew; returns the layers that are gone, and those added."""
        demands = Demands(*map(frozenset, (self.channels_last, self.trailing, self.logical, self.dense)))
        return strip(graph), *write(graph, *cheapest(graph, demands, self.inputs, self.outputs))

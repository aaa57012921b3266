"""Choose the order in which each value lies in memory, so that conversions between orders move the fewest bytes.

A value keeps its logical shape; `TensorType.layout` says how it lies, and a convert_layout stands where a reader needs
another order. A transpose stays as it is in meaning, but its result may lie so that no byte moves (`is_free`): every
layer keeps its axes, and targets emit nothing. The choice is a minimum cut of a graph of layers, where a value costs
its bytes if it is not read as it is computed (D. M. Greig et al., Exact maximum a posteriori estimation, 1989).
"""

from __future__ import annotations

from compiler.errors import UsageError
from compiler.graph import Graph, Node
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Firing, Observer
from passes._layout_apply import LayoutReport, is_free, outline, physical_perm, strip, write
from passes._layout_frames import CHANNELS_LAST, TRAILING, Demands
from passes._layout_problem import Problem

__all__ = ["ChooseLayout", "LayoutReport", "is_free", "physical_perm"]


class ChooseLayout(Pass):
    """Orders in memory by minimum cut; `inputs` and `outputs` of the graph: keep, nhwc or free.

    channels_last, trailing, logical   operations that the target runs in one order only: see Demands
    """

    error_class = ErrorClass.EXACT
    inputs: str = "keep"
    outputs: str = "keep"
    channels_last: tuple[str, ...] = CHANNELS_LAST
    trailing: tuple[str, ...] = TRAILING
    logical: tuple[str, ...] = ()

    def validate(self) -> None:
        if not {self.inputs, self.outputs} <= {"keep", "nhwc", "free"}:
            raise UsageError(f"inputs={self.inputs!r}, outputs={self.outputs!r}: each is one of keep, nhwc, free")

    def run(self, graph: Graph, observer: Observer) -> int:
        if not observer.allow():
            return 0
        before, gone = outline(graph), strip(graph)
        added, report = self.choose(graph)
        if outline(graph) == before:
            return 0
        observer.fired(Firing(str(report), tuple(gone), tuple(added), (), (), ()))
        return 1

    def report(self, graph: Graph) -> LayoutReport:
        """What this pass does to a graph, which stays as it is."""
        twin = graph.clone()
        strip(twin)
        return self.choose(twin)[1]

    def choose(self, graph: Graph) -> tuple[list[Node], LayoutReport]:
        """Annotate a graph without annotations; returns the layers added."""
        demands = Demands(frozenset(self.channels_last), frozenset(self.trailing), frozenset(self.logical))
        problem = Problem(graph, demands, self.inputs, self.outputs)
        return write(graph, problem, problem.solve())

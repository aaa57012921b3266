"""Store the values that rounding damages most in more bits, until what is lost is within a budget.

Units are ranked by the noise that rounding each of them alone makes at the outputs. The first of the ranking get 16
bits; if all of them do not suffice, the first ones become floats. How many is found by bisection.
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Firing, Meter, Observer
from passes._int8_scheme import Scheme
from passes._search import Budget


class FallBack(Pass):
    """Of a graph that was annotated by a target's `scheme`, within a `budget`; without one the pass does nothing."""

    error_class = ErrorClass.EXACT
    scheme: Scheme | None = None
    budget: Budget | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        if self.scheme is None or self.budget is None or not observer.allow():
            return 0
        count = self.budget.lift(graph, self.scheme)
        if isinstance(observer, Meter):
            kinds = [cost.stored for cost in self.budget.costs]
            observer.measured("units", {kind: kinds.count(kind) for kind in ("int16", "float32")})
        if not count:
            return 0
        told = "; ".join(map(str, self.budget.costs))
        observer.fired(Firing(f"{told}: {self.budget.found}", (), (), (), (), ()))
        return 1

    def __str__(self) -> str:
        return self.pass_name()

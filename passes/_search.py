"""The search for the fewest values in more bits that keep a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from compiler.graph import Graph, Value
from compiler.simulate import simulated
from compiler.tensor import Array
from passes._budget import Limits, Outputs, Standing
from passes._fallback import Cost, Plan, Trial
from passes._int8_scheme import Ranges, Scheme
from passes._int16 import values


class Budget:
    """What a model may lose, and what was given up for it.

    limits  of the loss
    trial   rows on which it is measured; `few` of them, on which damage is ranked
    floats  the graph before its weights were rounded, if it was; `ranges` the numbers that values were seen to hold
    snr     of outputs, in dB
    labels  the right class of each row, if known

    costs   of each unit that is stored in more bits; `reals` are the values that stay floats
    found   what was measured last
    """

    def __init__(
        self,
        limits: Limits,
        trial: Callable[[Graph], Trial],
        few: Callable[[Graph], Trial],
        floats: Callable[[], Graph | None],
        ranges: Callable[[Graph], Ranges],
        snr: Callable[[Outputs, Outputs], float],
        labels: Array | None = None,
    ) -> None:
        self.limits = limits
        self.costs: list[Cost] = []
        self.reals = set[Value]()
        self.found = Standing(None, 0.0)
        self._trial, self._few, self._floats, self._ranges, self._snr = trial, few, floats, ranges, snr
        self._labels = labels
        self._plan: Plan | None = None
        self._untouched: Graph | None = None
        self._count, self._step = 0, 1

    @property
    def is_planned(self) -> bool:
        """Whether the units are known."""
        return self._plan is not None

    @property
    def feeds(self) -> Sequence[Mapping[str, Array]]:
        """The rows on which it is measured."""
        assert self._untouched is not None
        return self._trial(self._untouched).feeds

    def lift(self, graph: Graph, scheme: Scheme) -> int:
        """Store as few units in more bits as the budget asks for, as far as the simulation tells; returns how many."""
        floats = self._floats()
        self._plan = plan = Plan(graph, scheme, self._few(graph), self._snr, floats)
        self._trial(graph).reference(graph if floats is None else floats)
        self._untouched = graph.clone()
        if not self._is_kept(graph):
            low, high = 0, plan.most
            while high - low > 1:
                middle = plan.widest if (low, high) == (0, plan.most) and plan.widest > 0 else (low + high) // 2
                twin = graph.clone()
                plan.apply(twin, middle, _of_twin(self._ranges(graph), graph, twin))
                low, high = (low, middle) if self._is_kept(twin) else (middle, high)
            self._apply(graph, high)
        return self._count

    def tighten(self, graph: Graph) -> bool:
        """Store more units in more bits, more of them each time; False if all are floats."""
        if self._plan is None or self._count >= self._plan.most:
            return False
        self._apply(graph, min(self._count + self._step, self._plan.most))
        self._step *= 2
        return True

    def keeps(self, results: Outputs) -> bool:
        """Whether results on the rows of the trial are within the budget."""
        assert self._untouched is not None
        reference = self._trial(self._untouched).reference(self._untouched)
        self.found = self.limits.measure(reference, results, self._labels)
        return self.limits.admit(self.found)

    def _is_kept(self, graph: Graph) -> bool:
        return self.keeps(self._trial(graph).run(simulated(graph).graph))

    def _apply(self, graph: Graph, count: int) -> None:
        assert self._plan is not None and self._untouched is not None
        ranges = self._ranges(self._untouched)
        self._count = count
        self.reals = self._plan.apply(graph, count, _of_twin(ranges, self._untouched, graph))
        self.costs = self._plan.costs(self._untouched, count, ranges)


def _of_twin(ranges: Ranges, graph: Graph, twin: Graph) -> Ranges:
    """Ranges of a graph's values for those of a copy."""
    pairs = zip(values(graph), values(twin), strict=True)
    return {b: ranges[a] for a, b in pairs if a in ranges}

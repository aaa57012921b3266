"""Which processor Core ML is predicted to choose: the shortest path over the operations in program order.

The states are processors. Entering a segment costs its launch, changing processors a switch, ending the graph on the
engine the way back to memory. These constants reproduced 440 of 482 models (costs.json names the source); branches
count as a chain, which is an approximation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from targets.apple import engine
from targets.apple.placement.eligible import ANE, CPU, GPU

ORDER = (ANE, GPU, CPU)  # of two equally short ways the first is taken
TIE_MS = 1e-9
UNITS: dict[str, tuple[str, ...]] = {"all": ORDER, "cpu-and-ne": (ANE, CPU), "cpu-and-gpu": (GPU, CPU)}
Costs = Mapping[str, float]  # milliseconds by processor that may run the operation


class Path(NamedTuple):
    """The processor of each operation, what the way costs in all, and for each operation what the best way costs more
    that puts it elsewhere (infinite if nothing else runs it)."""

    units: tuple[str, ...]
    cost_ms: float
    margins_ms: tuple[float, ...]

    @property
    def ties(self) -> int:
        """Operations for which another processor costs the same: there Core ML's choice is random."""
        return sum(m <= TIE_MS for m in self.margins_ms)


def segment(costs: Sequence[Costs]) -> Path:
    """The cheapest way; linear in the number of operations."""
    if not costs:
        return Path((), 0.0, ())
    ahead, behind = _forward(costs), _backward(costs)
    total = min(ahead[0][u] + behind[0][u] for u in costs[0])
    units, margins = [], []
    previous: str | None = None
    for i, here in enumerate(costs):
        ways = {u: ahead[i][u] + behind[i][u] for u in here}
        spent = 0.0 if previous is None else ahead[i - 1][previous]
        on_path = [u for u in ORDER if u in here and _reaches(spent, previous, u, here, behind[i], total)]
        chosen = previous if previous in on_path else on_path[0]
        units.append(chosen)
        margins.append(min((w for u, w in ways.items() if u != chosen), default=float("inf")) - total)
        previous = chosen
    return Path(tuple(units), total, tuple(max(m, 0.0) for m in margins))


def _reaches(spent: float, previous: str | None, unit: str, here: Costs, behind: Costs, total: float) -> bool:
    return spent + _enter(previous, unit) + here[unit] + behind[unit] <= total + TIE_MS


def _enter(previous: str | None, unit: str) -> float:
    known = engine.load("costs")["segmenter"]
    if unit == previous:
        return 0.0
    return float(known[f"launch_{unit}_ms"] + (0.0 if previous is None else known["switch_ms"]))


def _forward(costs: Sequence[Costs]) -> list[dict[str, float]]:
    """What the cheapest way to the end of each operation costs, by the processor that it ends on."""
    found = [{u: _enter(None, u) + c for u, c in costs[0].items()}]
    for here in costs[1:]:
        before = found[-1]
        found.append({u: c + min(w + _enter(p, u) for p, w in before.items()) for u, c in here.items()})
    return found


def _backward(costs: Sequence[Costs]) -> list[dict[str, float]]:
    """What the cheapest way from the end of each operation to that of the graph costs."""
    known = engine.load("costs")["segmenter"]
    found = [{u: known["graph_output_on_ane_ms"] if u == ANE else 0.0 for u in costs[-1]}]
    for i in range(len(costs) - 2, -1, -1):
        after, behind = costs[i + 1], found[-1]
        found.append({u: min(_enter(u, n) + c + behind[n] for n, c in after.items()) for u in costs[i]})
    return found[::-1]

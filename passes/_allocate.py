"""Which layers to compress how far: the least noise for what is saved, by Lagrange's method.

For a price of noise every layer takes the option that saves most for it: those options lie on the lower convex hull of
noise over saving. With a rising price layers step along their hulls, cheapest step first (Y. Shoham, A. Gersho,
Efficient bit allocation for an arbitrary set of quantizers, 1988).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

from passes._compression import Candidate, Setting


class Option(NamedTuple):
    """One setting of a technique for one layer: what it saves, and the noise power at the outputs that it makes,
    relative to theirs."""

    layer: str
    technique: str
    setting: Setting
    saved: float
    noise: float


class Step(NamedTuple):
    """From one option of a layer to the next on its hull: noise for each unit that is saved, and how many are."""

    slope: float
    saved: float
    option: Option


class Frontier:
    """All allocations that are best at some price, from none to every layer at its most. Noise and savings of layers
    add up."""

    def __init__(self, options: Iterable[Option]) -> None:
        steps: list[Step] = []
        ordered = sorted(options, key=lambda o: (o.layer, o.saved, o.noise, o.technique))
        for _, group in groupby(ordered, key=lambda o: o.layer):
            mine = list(group)
            steps.extend(_steps(mine, lower_hull([(o.saved, o.noise) for o in mine])))
        self.steps = sorted(steps, key=lambda s: (s.slope, s.option.layer))
        self._saved = list(accumulate((s.saved for s in self.steps), initial=0.0))

    def __len__(self) -> int:
        return len(self.steps)

    def choices(self, count: int) -> dict[str, Option]:
        """The options after the first `count` steps, by layer."""
        return {s.option.layer: s.option for s in self.steps[:count]}

    def saved(self, count: int) -> float:
        """What they save together."""
        return self._saved[count]

    def least(self, saved: float) -> int:
        """The fewest steps that save so much; all of them if none do."""
        return min(bisect_left(self._saved, saved), len(self))


def lower_hull(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which of (saved, lost), in rising order of the first, lie on their lower convex hull that begins at (0, 0), which
    is not among them. Points that save nothing never do."""
    kept: list[int] = []

    def at(i: int) -> tuple[float, float]:
        return points[kept[i]] if i >= 0 else (0.0, 0.0)

    for index, point in enumerate(points):
        last = len(kept) - 1
        if point[0] <= at(last)[0]:
            continue
        while kept and slope(at(len(kept) - 2), at(len(kept) - 1)) >= slope(at(len(kept) - 2), point):
            kept.pop()
        kept.append(index)
    return kept


def slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    """What is lost for each unit saved between two points."""
    return (b[1] - a[1]) / (b[0] - a[0])


def thinned(candidates: Iterable[Candidate], axis: int, most: int) -> list[Candidate]:
    """At most so many candidates of one layer and technique, evenly along the lower hull of their predicted errors over
    what they save along an axis of `Work`."""
    ordered = sorted(candidates, key=lambda c: (c.saved[axis], c.error))
    hull = lower_hull([(float(c.saved[axis]), c.error) for c in ordered])
    if len(hull) > most:
        hull = [hull[round(i * (len(hull) - 1) / (most - 1))] for i in range(most)]
    return [ordered[i] for i in hull]


def _steps(options: Sequence[Option], hull: Sequence[int]) -> list[Step]:
    steps: list[Step] = []
    before = (0.0, 0.0)
    for i in hull:
        point = (options[i].saved, options[i].noise)
        steps.append(Step(slope(before, point), point[0] - before[0], options[i]))
        before = point
    return steps

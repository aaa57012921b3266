"""Which layers to compress how far: the least noise for what is saved, by Lagrange's method.

For a price of noise every layer takes the option that saves most for it: those options lie on the lower convex hull of
noise over saving. With a rising price layers step along their hulls, cheapest step first (Y. Shoham, A. Gersho,
Efficient bit allocation for an arbitrary set of quantizers, 1988).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

from passes._compression import Candidate, Setting, Work

Amount = Callable[[Work], float]  # of what is to be saved


class Option(NamedTuple):
    """One setting of a technique for one layer: what it saves, and the noise power at the outputs that it makes,
    relative to theirs. `also`: a second technique and its setting, of which what is saved and lost is included."""

    layer: str
    technique: str
    setting: Setting
    saved: float
    noise: float
    also: tuple[str, Setting] | None = None

    @property
    def settings(self) -> list[tuple[str, Setting]]:
        """Of each technique."""
        return [(self.technique, self.setting), *([] if self.also is None else [self.also])]


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
        self.menus: dict[str, list[Option]] = {}
        ordered = sorted(options, key=lambda o: (o.layer, o.saved, o.noise, o.technique, str(o.also)))
        for layer, group in groupby(ordered, key=lambda o: o.layer):
            mine = self.menus[layer] = list(group)
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

    def relaxed(self, count: int, spare: float) -> list[Option]:
        """What is chosen after the first `count` steps, with as much of the noise taken back as `spare` savings pay
        for: layer by layer, the change that takes back most."""
        chosen = self.choices(count)
        while True:
            changes = [
                (now.noise - less.noise, now.saved - less.saved, layer, less)
                for layer, now in chosen.items()
                for less in (now._replace(saved=0.0, noise=0.0, setting={}), *self.menus[layer])
                if less.noise < now.noise and now.saved - less.saved <= spare
            ]
            if not changes:
                return list(chosen.values())
            _, given, layer, less = max(changes, key=lambda c: c[:3])
            spare -= given
            if less.saved:
                chosen[layer] = less
            else:
                del chosen[layer]


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


def thinned(candidates: Iterable[Candidate], amount: Amount, most: int) -> list[Candidate]:
    """At most so many candidates of one layer and technique, evenly along the lower hull of their predicted errors over
    what they save."""
    ordered = sorted(candidates, key=lambda c: (amount(c.saved), c.error))
    hull = lower_hull([(amount(c.saved), c.error) for c in ordered])
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

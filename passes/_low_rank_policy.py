"""Which rank each layer gets: one interface for rules of single layers and for budgets of the whole model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, isnan
from typing import NamedTuple

from compiler.errors import UsageError
from passes._compression import Work
from passes._low_rank import Menu, Option, Refused
from passes._low_rank_dimension import participation_ratio, two_nn
from passes._low_rank_forms import result_modes

Choice = Option | str  # a way to split a layer, or why it stays
DIMENSIONS = ("two-nn", "participation")
BUDGETS = ("parameters", "macs", "seconds")


class Policy(NamedTuple):
    """How ranks are chosen; one of these.

    rank        the same for all layers, for both sides of a Tucker form
    ratio       the least error with at most this share of a layer's parameters
    energy      the cheapest that keeps this share of the squared singular values
    error       the cheapest whose results are off by at most this, root mean square relative to their deviation
    dimension   the cheapest with twice as many numbers as the results of the layer have dimensions, by "two-nn" or
                "participation": a smooth manifold of m dimensions embeds in 2m (H. Whitney, 1944)
    parameters, macs, seconds
                of the whole model, seconds by the cost function: the least sum of errors within this; up to 1, a
                share of what it has
    """

    rank: int = 0
    ratio: float = 0.0
    energy: float = 0.0
    error: float = 0.0
    dimension: str = ""
    parameters: float = 0.0
    macs: float = 0.0
    seconds: float = 0.0

    def validate(self, timed: bool = False) -> None:
        """UsageError unless exactly one is given, and makes sense; `timed`: there is a cost function."""
        given = [name for name, value in self._asdict().items() if value]
        if len(given) != 1:
            told = f"{' and '.join(given)} are given" if given else "none is given"
            raise UsageError(f"ranks are chosen by one rule, and {told}", hint=f"one of {', '.join(self._fields)}")
        if min(self.rank, *(getattr(self, n) for n in BUDGETS)) < 0 or not all(
            0 <= v <= 1 for v in (self.ratio, self.energy, self.error)
        ):
            raise UsageError(
                f"{given[0]}={getattr(self, given[0])!r} is out of range",
                hint="ranks and budgets are positive, shares at most 1",
            )
        if self.seconds and not timed:
            raise UsageError("a budget of seconds needs a cost function of layers", hint="macs=... needs none")
        if self.dimension not in ("", *DIMENSIONS):
            raise UsageError(f"there is no dimension named {self.dimension!r}", hint=f"known: {', '.join(DIMENSIONS)}")

    def choose(self, menus: Sequence[Menu | Refused], whole: Work) -> list[tuple[Menu | Refused, Choice]]:
        """An option for each layer, or why it stays as it is. `whole`: the work of the model. UsageError for a budget
        that no ranks meet."""
        chosen = self._chosen([m for m in menus if isinstance(m, Menu)], whole)
        return [(m, m.reason if isinstance(m, Refused) else chosen[m.layer.name]) for m in menus]

    def _chosen(self, menus: Sequence[Menu], whole: Work) -> dict[str, Choice]:
        for i, name in enumerate(BUDGETS):
            if getattr(self, name):
                budget = float(getattr(self, name))
                return _within(menus, whole, budget * whole[i] if budget <= 1 else budget, i, name)
        return {menu.layer.name: self._one(menu) for menu in menus}

    def _one(self, menu: Menu) -> Choice:
        if not menu.options:
            return menu.declined
        if self.ratio:
            fitting = [o for o in menu.options if o.after.parameters <= self.ratio * menu.before.parameters]
            found = min(fitting, key=lambda o: (o.error, o.after), default=None)
            return found or f"no rank leaves {self.ratio:.0%} of its parameters"
        fits, told = self._rule(menu)
        fitting = [o for o in menu.options if fits(o)]
        cheapest = min(fitting, key=lambda o: (o.after.cost, o.after.parameters, o.error), default=None)
        return cheapest or f"no rank that makes it cheaper {told}"

    def _rule(self, menu: Menu) -> tuple[Callable[[Option], bool], str]:
        """What an option has to fulfil, and in words."""
        if self.rank:
            return lambda _: True, f"is {self.rank}"
        if self.energy:
            return lambda o: o.error <= 1 - self.energy, f"keeps {self.energy:.3%} of the energy"
        if self.error:
            return lambda o: o.error <= self.error**2, f"is off by {self.error:.2%} or less"
        least = 2 * dimension_of(menu, self.dimension)
        return lambda o: min(o.ranks) >= least, f"has twice the {least // 2} dimensions of its results"


def dimension_of(menu: Menu, kind: str) -> int:
    """The dimension of a layer's results, rounded up. UsageError without rows."""
    if menu.seen is None:
        raise UsageError("the dimension of activations is measured on rows of data", hint="--calibrate DATA")
    found = (
        two_nn(menu.seen.cloud)
        if kind == "two-nn"
        else participation_ratio(result_modes(menu.layer, menu.seen).energies)
    )
    return len(menu.layer.tensor) if isnan(found) else max(ceil(found), 1)


class _Step(NamedTuple):
    """From one option of a layer to a cheaper one: what is lost for what is saved."""

    slope: float
    saved: float
    name: str
    option: Option


def _within(menus: Sequence[Menu], whole: Work, budget: float, axis: int, what: str) -> dict[str, Choice]:
    """The least sum of errors for which the work along an axis is within the budget, but for the last step: of each
    layer the options on the lower convex hull, the step that loses least for what it saves first (Lagrange's method;
    Y. Shoham, A. Gersho, Efficient bit allocation for an arbitrary set of quantizers, 1988)."""
    kept = "the budget leaves it as it is"
    chosen: dict[str, Choice] = {m.layer.name: kept if m.options else m.declined for m in menus}
    left = float(whole[axis]) - budget
    for step in sorted((s for menu in menus for s in _hull(menu, axis)), key=lambda s: (s.slope, s.name)):
        if left <= 0:
            break
        chosen[step.name] = step.option
        left -= step.saved
    if left > 0:
        least = float(whole[axis]) - (float(whole[axis]) - budget - left)
        raise UsageError(
            f"low rank alone leaves {what} of {least:.4g} at least, and {budget:.4g} are asked for",
            hint="give a larger budget, or compress in other ways too",
        )
    return chosen


def _hull(menu: Menu, axis: int) -> list[_Step]:
    """The steps from the layer as it is along the lower convex hull of its options."""
    points: list[tuple[float, float, Option | None]] = [(0.0, 0.0, None)]
    for o in sorted(menu.options, key=lambda o: (menu.before[axis] - o.after[axis], o.error)):
        saved = float(menu.before[axis] - o.after[axis])
        if saved <= points[-1][0]:
            continue
        while len(points) > 1 and _slope(points[-2], points[-1]) >= _slope(points[-2], (saved, o.error, o)):
            points.pop()
        points.append((saved, o.error, o))
    return [_Step(_slope(a, b), b[0] - a[0], menu.layer.name, b[2]) for a, b in pairwise(points) if b[2] is not None]


def _slope(a: tuple[float, float, Option | None], b: tuple[float, float, Option | None]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])

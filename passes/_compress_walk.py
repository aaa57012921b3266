"""Along the allocations of one frontier: how many steps meet a goal, how many the limits admit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from compiler.errors import UsageError
from compiler.graph import Graph
from passes._allocate import Amount, Frontier
from passes._budget import Limits
from passes._compress_apply import Choices
from passes._compress_judge import Loss, loosened
from passes._compress_make import Data, Maker
from passes._compression import Setting, Work
from passes._recipe import Recipe

TRIES = 3  # models on which late recoveries are run for a goal without a number


class Goal(NamedTuple):
    """What to save along an axis of `Work`, or `bytes`: down to `left`, of the model's own if it is a share; None: as
    much as the limits admit."""

    axis: str
    left: float | None = None
    is_share: bool = False

    def most(self, whole: float) -> float | None:
        """How much may be left of it."""
        return self.left * whole if self.left is not None and self.is_share else self.left


class Outcome(NamedTuple):
    """A compressed model: its work, its distance from the original, and what makes it."""

    work: Work
    loss: Loss | None
    recipe: Recipe


class Task(NamedTuple):
    """What is to be done to a graph, and how it is measured: `amount` of what is to be saved in the `work` of a
    graph."""

    graph: Graph
    goal: Goal
    data: Data
    maker: Maker
    amount: Amount
    work: Callable[[Graph], Work]
    outcome: Callable[[Choices, Work, Loss | None, bool], Outcome]
    tell: Callable[[str], None]

    @property
    def limits(self) -> Limits:
        """Of what may be lost."""
        return self.data.judge.limits


class Walk:
    """Over a frontier. What is counted and measured is known from then on.

    base    what is chosen before the first step
    """

    def __init__(self, task: Task, frontier: Frontier, base: Choices | None = None) -> None:
        self.task, self.frontier, self.base = task, frontier, base or {}
        self.most_left = task.goal.most(task.amount(task.work(task.graph)))
        self._counted: dict[int, float] = {}
        self._measured: dict[tuple[int, bool], Outcome] = {}

    @property
    def last(self) -> int:
        """How many steps there are."""
        return len(self.frontier)

    @property
    def known(self) -> set[int]:
        """The numbers of steps that were measured."""
        return {k for k, late in self._measured if not late}

    def settings(self, count: int) -> Choices:
        """What is chosen after so many steps."""
        found: dict[str, dict[str, Setting]] = {name: dict(chosen) for name, chosen in self.base.items()}
        for layer, option in sorted(self.frontier.choices(count).items()):
            for technique, setting in option.settings:
                found.setdefault(technique, {})[layer] = setting
        return found

    def bits(self, count: int, storage: str) -> Mapping[str, Setting]:
        """How layers are stored then."""
        return self.settings(count).get(storage, {})

    def summed(self) -> int:
        """The fewest steps that meet the goal, if all added up."""
        most = self.most_left
        return self.last if most is None else self.frontier.least(self.left(0) - most)

    def least(self) -> int:
        """The fewest steps that meet the goal. UsageError if none do."""
        high = self.summed()
        stride = 1
        while not self.reaches(high):
            if high == self.last:
                raise self._beyond(self.left(high))
            high, stride = min(high + stride, self.last), 2 * stride
        low, stride = high - 1, 1
        while low > 0 and self.reaches(low):
            high, low, stride = low, max(low - 2 * stride, 0), 2 * stride
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.reaches(middle) else (middle, high)
        while not self.meets(high):  # fitted weights may prune others
            if high == self.last:
                raise self._beyond(self.task.amount(self.result(high).work))
            high += 1
        return high

    def reaches(self, count: int) -> bool:
        """Whether so many steps meet the goal as counted."""
        return self.most_left is None or self.left(count) <= self.most_left

    def meets(self, count: int) -> bool:
        """Whether what so many steps make meets the goal, once weights are fitted; all do if that is no number."""
        return self.most_left is None or self.task.amount(self.result(count).work) <= self.most_left

    def relaxed(self, count: int) -> Walk:
        """The choice after so many steps, which meet a goal, with noise taken back for what they save beyond it."""
        assert self.most_left is not None
        chosen = self.frontier.relaxed(count, self.most_left - self.left(count))
        return Walk(self.task, Frontier(chosen), self.base)

    def _beyond(self, left: float) -> UsageError:
        axis = {"cost": "seconds"}.get(self.task.goal.axis, self.task.goal.axis)
        return UsageError(
            f"{axis} of {self.most_left:.4g} are asked for, and compression leaves {left:.4g} at least",
            hint="ask for less",
        )

    def most(self, last: int, limits: Limits | None = None) -> int:
        """The most steps, up to `last`, that the limits are found to admit; by default those of the judge."""
        low, high = 0, last + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.admits(middle, limits=limits) else (low, middle)
        return max((k for k in self.known if k <= last and self.admits(k, limits=limits)), default=low)

    def furthest(self, least: int) -> int:
        """More steps than the limits admit as it is, if late recoveries bring the model back within them: as many as
        looser limits admit, or else half of that way, and half again."""
        last = self.most(self.last, loosened(self.task.limits))
        for _ in range(TRIES):
            if last <= least:
                return least
            if self.admits(last, late=True):
                return last
            saved = (self.frontier.saved(least) + self.frontier.saved(last)) / 2
            last = min(self.frontier.least(saved), last - 1)
        return least

    def admits(self, count: int, late: bool = False, limits: Limits | None = None) -> bool:
        """Whether what so many steps make keeps the limits."""
        loss = self.result(count, late).loss
        return loss is not None and (limits or self.task.limits).admit(loss.standing)

    def result(self, count: int, late: bool = False) -> Outcome:
        """What so many steps make of the model, measured; `late`: with the recoveries."""
        task, key = self.task, (count, late and self.task.maker.recovers)
        if key not in self._measured:
            task.tell(f"measure {count} of {self.last} steps")
            twin, choices = task.graph.clone(), self.settings(count)
            made = task.maker.make(twin, choices, late)
            self._measured[key] = task.outcome(choices, task.work(twin), made.loss, late)
        return self._measured[key]

    def spread(self, points: int) -> list[int]:
        """Numbers of steps that save evenly more, and all that were measured."""
        top = self.frontier.saved(self.last)
        return sorted({self.frontier.least(top * i / max(points - 1, 1)) for i in range(points)} | self.known)

    def left(self, count: int) -> float:
        """What is left after so many steps, as counted."""
        if count not in self._counted:
            twin = self.task.graph.clone()
            self.task.maker.outline(twin, self.settings(count))
            self._counted[count] = self.task.amount(self.task.work(twin))
        return self._counted[count]

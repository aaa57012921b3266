"""Which of several allocations is taken: they are compressed and measured, as predicted noise tells close ones apart
badly.

Beside forms and bits of each layer as its price has it, there are the techniques one by one, bits alone, all layers
stored alike, and forms around that: what layers of several techniques or storages do to each other may cost more than
it saves. Where the last step saves more than is asked for, the rest buys noise back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from compiler.errors import UsageError
from passes._compress_judge import Loss
from passes._compress_menu import Menu
from passes._compress_walk import Outcome, Task, Walk

ROUNDS = 3  # of pricing what is pruned by the bits that are chosen
NEAR = 2  # steps beyond the goal that are measured too
AROUND = 2  # ways to store all layers alike around which forms are looked for


class Found(NamedTuple):
    """A number of steps along a walk."""

    walk: Walk
    steps: int

    def result(self, late: bool = False) -> Outcome:
        """What they make."""
        return self.walk.result(self.steps, late)

    def loss(self) -> Loss:
        """Of that, without recoveries."""
        loss = self.result().loss
        assert loss is not None
        return loss


class Chooser:
    """Of the allocation for a goal.

    storage   the name of the technique that stores weights; None: there is none
    has_late  whether recoveries are run at the end
    walks     that were taken
    """

    def __init__(self, menu: Menu, task: Task, storage: str | None, has_late: bool) -> None:
        self.menu, self.task, self.storage, self.has_late = menu, task, storage, has_late
        self.walks: list[Walk] = []

    def choose(self) -> Found:
        """The best that is found. UsageError if nothing meets the goal."""
        if self.task.goal.left is None:
            return self._furthest()
        found: list[Found] = []
        beyond: list[UsageError] = []
        for walk in self._free():
            try:
                found += self._near(walk)
            except UsageError as e:
                beyond.append(e)
        found += self._alike()
        if not found:
            raise beyond[0]
        return found[self.task.data.judge.best([f.loss() for f in found])]

    def _furthest(self) -> Found:
        """What saves most within the limits."""
        found = [Found(walk, self._steps(walk)) for walk in self._free()]
        if not self.has_late:  # those take too long for more than is needed
            alike = [Found(walk, 0) for walk in self._uniform()]
            kept = [f for f in alike if f.walk.admits(0)]
            if kept:
                walk = max(kept, key=self._worth).walk
                found.append(Found(walk, walk.most(walk.last)))
        return max(found, key=self._worth)

    def _worth(self, found: Found) -> tuple[float, ...]:
        result = found.result(late=self.has_late)
        assert result.loss is not None
        return self.task.limits.admit(result.loss.standing), -self.task.amount(result.work), result.loss.snr

    def _steps(self, walk: Walk) -> int:
        count = walk.most(walk.last)
        return walk.furthest(count) if self.has_late else count

    def _free(self) -> Iterator[Walk]:
        """Forms and bits, where that are both, and what there is alone."""
        walk = Walk(self.task, self.menu.frontier({}))
        if self.menu.is_mixed and self.storage is not None:
            is_open = self.task.goal.left is None
            for _ in range(1 if is_open else ROUNDS):
                count = self._steps(walk) if is_open else walk.summed()
                walk = Walk(self.task, self.menu.frontier(walk.bits(count, self.storage)))
            yield self._taken(walk)
            walk = Walk(self.task, self.menu.stored_only())
        yield self._taken(walk)
        for frontier in self.menu.apart():
            yield self._taken(Walk(self.task, frontier))

    def _uniform(self) -> Iterator[Walk]:
        if self.storage is not None:
            for bits in self.menu.uniform():
                yield self._taken(Walk(self.task, self.menu.around(bits), {self.storage: bits}))

    def _alike(self) -> Iterator[Found]:
        """All layers stored alike where that meets the goal, or nearly, so that forms do the rest."""
        walks = sorted(self._uniform(), key=lambda walk: walk.left(0))
        met = [walk for walk in walks if walk.reaches(0)]
        yield from (Found(walk, 0) for walk in met)
        for walk in walks[len(met) : len(met) + AROUND]:
            try:
                yield Found(walk, walk.least())
            except UsageError:  # others may reach it
                continue

    def _near(self, walk: Walk) -> list[Found]:
        """The fewest steps that meet a goal; where bits are chosen, those behind it too."""
        least = walk.least()
        last = min(least + NEAR, walk.last) if self.menu.has_bits else least
        found = [Found(walk, k) for k in range(least, last + 1) if walk.meets(k)]
        relaxed = self._taken(walk.relaxed(least))
        return [*found, Found(relaxed, relaxed.last)] if relaxed.reaches(relaxed.last) else found

    def _taken(self, walk: Walk) -> Walk:
        self.walks.append(walk)
        return walk

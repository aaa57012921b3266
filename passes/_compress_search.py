"""The search for the compression of a model that meets a goal, or that saves most within limits of what is lost.

What each layer costs when it is compressed is measured once, layers are chosen by Lagrange's method, and what was
chosen is applied, counted and measured as a whole: noise and savings of layers only nearly add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.rewrite import Firing, Observer
from passes._allocate import Frontier, thinned
from passes._compress_apply import Choices, apply_all
from passes._compress_judge import Judge, Loss
from passes._compression import Candidate, Cost, Rows, Setting, Technique, Work, macs_of, work_of
from passes._recipe import Choice, Recipe
from passes._sensitivity import Store, options_of

MENU = 32  # settings of a layer and technique that are considered
AXES = Work._fields


class Goal(NamedTuple):
    """What to save along an axis of `Work`: down to `left`, of the model's own if it is a share; None: as much as the
    limits admit."""

    axis: str
    left: float | None = None
    is_share: bool = False

    def most(self, whole: Work) -> float | None:
        """How much may be left."""
        if self.left is None:
            return None
        return self.left * float(whole[AXES.index(self.axis)]) if self.is_share else self.left


class Data(NamedTuple):
    """Rows to fit weights to, fewer of them for a single layer, and the judge of the results."""

    rows: Rows
    few: Rows
    judge: Judge


class Stage(NamedTuple):
    """After a technique: its layers, the work that is left, and the distance from the original so far."""

    technique: str
    layers: Sequence[str]
    work: Work
    loss: Loss | None


class Outcome(NamedTuple):
    """A compressed model: its work, its distance from the original, and what makes it."""

    work: Work
    loss: Loss | None
    recipe: Recipe


class Search:
    """Of one model.

    techniques  in the order in which they are applied
    options     of them, for the recipe
    data        None: only a recipe can be replayed, with weights that are fitted to nothing
    cost        of a layer, for goals of it
    digest      of a graph and of the rows
    store       where measured sensitivities are kept
    points      how many of the Pareto front are measured
    tell        is told what is done

    whole, stages, outcome, left, front   what was found: the work before, each technique, the result, layers of a
                recipe in which nothing was left to save, and the Pareto front
    """

    def __init__(
        self,
        techniques: Sequence[Technique],
        digest: Callable[[Graph], str],
        goal: Goal | None = None,
        data: Data | None = None,
        *,
        recipe: Recipe | None = None,
        options: Setting | None = None,
        cost: Cost = macs_of,
        store: Path | None = None,
        key: str = "",
        points: int = 0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.techniques, self.digest, self.goal, self.data = techniques, digest, goal, data
        self.recipe, self.options, self.cost = recipe, options or {}, cost
        self.points, self._path, self._key = points, store, key
        self.whole = Work(0, 0, 0.0)
        self.stages: list[Stage] = []
        self.left: list[str] = []
        self.outcome: Outcome | None = None
        self.front: list[Outcome] = []
        self.store = Store(None, "")
        self._tell = tell or (lambda _: None)
        self._model = ""
        self._frontier = Frontier(())
        self._counted: dict[int, Work] = {}
        self._measured: dict[int, Outcome] = {}

    @property
    def axis(self) -> int:
        """Of `Work`, along which is saved."""
        return AXES.index(self.goal.axis) if self.goal is not None else 0

    def run(self, graph: Graph, observer: Observer) -> int:
        """Compress the graph; returns how many techniques changed it. UsageError for a recipe of another model, for a
        goal that cannot be reached, and for one that cannot be reached within the limits."""
        self._model, self.whole = self.digest(graph), self.count(graph)
        if self.data is not None:
            self.data.judge.start(graph)
        choices = self._replayed() if self.recipe is not None else self._chosen(graph)
        if not observer.allow():
            return 0

        def watch(technique: str, layers: Sequence[str]) -> None:
            self._tell(f"measure {technique}")
            loss = None if self.data is None else self.data.judge.loss(graph)
            stage = Stage(technique, layers, self.count(graph), loss)
            self.stages.append(stage)
            told = f"{technique} of {len(layers)} layers: {stage.work.parameters} parameters, {stage.work.macs} MACs"
            observer.fired(Firing(told if loss is None else f"{told}; {loss}", (), (), (), (), ()))

        self._tell("compress")
        rows = None if self.data is None else self.data.rows
        self.left = apply_all(graph, self.techniques, choices, rows, watch)
        loss = self.stages[-1].loss if self.stages else None
        self.outcome = self._outcome(choices, self.count(graph), loss)
        return len(self.stages)

    def count(self, graph: Graph) -> Work:
        """The work of a graph."""
        return work_of(graph.nodes, self.cost)

    def _replayed(self) -> Choices:
        assert self.recipe is not None
        if self.recipe.model != self._model:
            raise UsageError("the recipe is of another model", hint="a recipe holds for the model that it was made of")
        known = {t.name for t in self.techniques}
        unknown = sorted({c.technique for c in self.recipe.choices} - known)
        if unknown:
            raise UsageError(f"the recipe uses {', '.join(unknown)}", hint=f"known: {', '.join(sorted(known))}")
        return {name: {c.layer: c.setting for c in self.recipe.choices if c.technique == name} for name in known}

    def _chosen(self, graph: Graph) -> Choices:
        assert self.goal is not None and self.data is not None
        self._frontier = self._allocations(graph)
        count = self._least(graph) if self.goal.left is not None else self._most(graph, len(self._frontier))
        limits = self.data.judge.limits
        if limits.drop is not None or limits.psnr is not None:
            self._expect_kept(graph, count)
        if self.points:
            self._tell("front")
            self.front = [self._result(graph, k) for k in self._spread()]
        return self._settings(count)

    def _allocations(self, graph: Graph) -> Frontier:
        """Measure the sensitivities of all layers."""
        assert self.data is not None
        judge, few = self.data.judge, self.data.few
        self.store = Store(self._path, f"{self._model}/{self._key}")
        options = []
        for technique in self.techniques:
            self._tell(f"candidates of {technique.name}")

            def noise(c: Candidate, technique: Technique = technique) -> float:
                self._tell(f"{technique.name} {c.layer}")
                twin = graph.clone()
                technique.apply(twin, {c.layer: c.setting}, few)
                return judge.noise(twin)

            found = sorted(technique.candidates(graph, self.data.rows), key=lambda c: c.layer)
            for _, menu in groupby(found, key=lambda c: c.layer):
                kept = thinned(menu, self.axis, MENU)
                if kept:
                    options += options_of(kept, self.axis, noise, self.store)
        return Frontier(options)

    def _least(self, graph: Graph) -> int:
        """The fewest steps that meet the goal."""
        assert self.goal is not None
        most = self.goal.most(self.whole)
        assert most is not None

        def met(k: int) -> bool:
            return self._count(graph, k)[self.axis] <= most

        last = len(self._frontier)
        high = self._frontier.least(float(self.whole[self.axis]) - most)
        stride = 1
        while not met(high):
            if high == last:
                least = self._count(graph, last)[self.axis]
                raise UsageError(
                    f"{self.goal.axis} of {most:.4g} are asked for, and compression leaves {least:.4g} at least",
                    hint="ask for less",
                )
            high, stride = min(high + stride, last), 2 * stride
        low, stride = high - 1, 1
        while low > 0 and met(low):
            high, low, stride = low, max(low - 2 * stride, 0), 2 * stride
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if met(middle) else (middle, high)
        while self._result(graph, high).work[self.axis] > most and high < last:  # fitted weights may prune others
            high += 1
        return high

    def _most(self, graph: Graph, last: int) -> int:
        """The most steps, up to `last`, that the limits are found to admit."""
        low, high = 0, last + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._admits(graph, middle) else (low, middle)
        return max((k for k in self._measured if k <= last and self._admits(graph, k)), default=low)

    def _admits(self, graph: Graph, count: int) -> bool:
        assert self.data is not None
        loss = self._result(graph, count).loss
        return loss is not None and self.data.judge.limits.admit(loss.standing)

    def _expect_kept(self, graph: Graph, count: int) -> None:
        assert self.data is not None and self.goal is not None
        if self._admits(graph, count):
            return
        limits, found = self.data.judge.limits, self._result(graph, count)
        within = self._result(graph, self._most(graph, count - 1)).work[self.axis]
        asked = [] if limits.drop is None else [f"{limits.drop:.2%} may be lost"]
        asked += [] if limits.psnr is None else [f"{limits.psnr:g} dB are asked for"]
        raise UsageError(
            f"the goal costs too much: {found.loss}, and {' and '.join(asked)}",
            hint=f"within that, {self.goal.axis} of {within:.4g} were reached, from {self.whole[self.axis]:.4g}",
        )

    def _count(self, graph: Graph, count: int) -> Work:
        """The work after so many steps."""
        if count not in self._counted:
            twin = graph.clone()
            apply_all(twin, self.techniques, self._settings(count), None)
            self._counted[count] = self.count(twin)
        return self._counted[count]

    def _result(self, graph: Graph, count: int) -> Outcome:
        """What so many steps make of the model, measured."""
        assert self.data is not None
        if count not in self._measured:
            self._tell(f"measure {count} of {len(self._frontier)} steps")
            twin, choices = graph.clone(), self._settings(count)
            apply_all(twin, self.techniques, choices, self.data.rows)
            self._measured[count] = self._outcome(choices, self.count(twin), self.data.judge.loss(twin))
        return self._measured[count]

    def _spread(self) -> list[int]:
        """Numbers of steps that save evenly more, and all that were measured."""
        top = self._frontier.saved(len(self._frontier))
        spread = {self._frontier.least(top * i / max(self.points - 1, 1)) for i in range(self.points)}
        return sorted(spread | set(self._measured))

    def _settings(self, count: int) -> Choices:
        settings: dict[str, dict[str, Setting]] = {}
        for layer, option in sorted(self._frontier.choices(count).items()):
            settings.setdefault(option.technique, {})[layer] = option.setting
        return settings

    def _outcome(self, choices: Choices, work: Work, loss: Loss | None) -> Outcome:
        made = [Choice(layer, name, setting) for name, by in choices.items() for layer, setting in by.items()]
        measured: Mapping[str, object] = {
            "parameters": [self.whole.parameters, work.parameters],
            "macs": [self.whole.macs, work.macs],
            **({} if loss is None else loss.as_json()),
        }
        return Outcome(work, loss, Recipe(self._model, self.options, sorted(made, key=lambda c: c[:2]), measured))

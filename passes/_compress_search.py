"""The search for the compression of a model that meets a goal, or that saves most within limits of what is lost.

What each layer costs when it is compressed is measured once, layers are chosen by Lagrange's method, and what was
chosen is applied, counted and measured as a whole: noise and savings of layers only nearly add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.pass_base import Pass
from compiler.rewrite import Firing, Observer, Unobserved
from passes._bits_technique import WeightBits, without_annotations
from passes._budget import Limits
from passes._compress_apply import Choices
from passes._compress_choose import Chooser
from passes._compress_judge import Loss
from passes._compress_make import Data, Maker, Stage
from passes._compress_menu import Measuring, Menu
from passes._compress_walk import Goal, Outcome, Task, Walk
from passes._compression import Cost, Recovery, Setting, Technique, Work, layer_names, macs_of, work_of
from passes._recipe import Choice, Recipe
from passes._sensitivity import Store
from passes._storage import as_stored

AXES = Work._fields
BYTES = "bytes"
RECOVERED = ("recover", "epochs", "augment")  # options of recoveries


class Search:
    """Of one model.

    techniques  in the order in which they are applied; `storage`: of weights, behind them
    first       passes that are run before, which are no part of what is chosen
    options     of them, for the recipe
    data        None: only a recipe can be replayed, with weights that are fitted to nothing
    recoveries, late
                run behind the techniques, on what is chosen; the late ones learn from all rows
    cost        of a layer, for goals of it
    each, share, joint
                bytes of a float in the artifact, the share of zeros from which weights are stored as a mask and the
                numbers that are left (None: never), and whether those may be in fewer bits
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
        first: Sequence[Pass] = (),
        storage: WeightBits | None = None,
        recoveries: Sequence[Recovery] = (),
        late: Sequence[Recovery] = (),
        recipe: Recipe | None = None,
        options: Setting | None = None,
        cost: Cost = macs_of,
        each: float = 4.0,
        share: float | None = None,
        joint: bool = False,
        store: Path | None = None,
        key: str = "",
        points: int = 0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.techniques, self.digest, self.goal, self.data = techniques, digest, goal, data
        self.first = first
        self.storage, self.recoveries, self.late = storage, recoveries, late
        self.recipe, self.options, self.cost = recipe, options or {}, cost
        self.each, self.share, self.joint = each, share, joint
        self.points, self._path, self._key = points, store, key
        self.whole = Work(0, 0, 0.0)
        self.stages: Sequence[Stage] = []
        self.left: Sequence[str] = []
        self.outcome: Outcome | None = None
        self.front: list[Outcome] = []
        self.store = Store(None, "")
        self._tell = tell or (lambda _: None)
        self._model = ""

    def amount(self, work: Work) -> float:
        """What is to be saved of work."""
        axis = self.goal.axis if self.goal is not None else AXES[0]
        return work.nbytes(self.each) if axis == BYTES else float(work[AXES.index(axis)])

    def run(self, graph: Graph, observer: Observer) -> int:
        """Compress the graph; returns how many techniques changed it. UsageError for a recipe of another model, for a
        goal that cannot be reached, and for one that cannot be reached within the limits."""
        self._model = self.digest(graph)
        for step in self.first:
            step.run(graph, _Naming())
        self.whole = self.count(graph)
        self._maker = Maker(
            self.techniques,
            self.count,
            self.digest,
            storage=self.storage,
            recoveries=self.recoveries,
            late=self.late,
            data=self.data,
            tell=self._tell,
        )
        if self.data is not None:
            self.data.judge.start(graph)
        choices = self._replayed() if self.recipe is not None else self._chosen(graph)
        self._tell_declined(graph, observer)
        if not observer.allow():
            return 0
        self._tell("compress")
        made = self._maker.make(graph, choices, late=True, each=True)
        self.stages, self.left = made.stages, made.left
        self.outcome = self._outcome(choices, self.count(graph), made.loss, recovered=True)
        if self.points and self._maker.recovers:
            self.front = sorted([*self.front, self.outcome], key=lambda o: -self.amount(o.work))
        if self.recipe is not None:
            self._expect_admitted(made.loss)
        for stage in self.stages:
            observer.fired(Firing(str(stage), (), (), (), (), ()))
        without_annotations(graph)
        return len(self.stages)

    def _tell_declined(self, graph: Graph, observer: Observer) -> None:
        """Which layers a technique has nothing cheaper for, and why."""
        nodes = layer_names(graph)
        for technique in self.techniques:
            for layer, reason in getattr(technique, "declined", {}).items():
                observer.skipped(technique.name, nodes[layer], reason)

    def count(self, graph: Graph) -> Work:
        """The work of a graph."""
        return as_stored(work_of(graph.nodes, self.cost), graph, self.each, self.share)

    def _replayed(self) -> Choices:
        assert self.recipe is not None
        if self.recipe.model != self._model:
            raise UsageError("the recipe is of another model", hint="a recipe holds for the model that it was made of")
        known = set(self._maker.names)
        unknown = sorted({c.technique for c in self.recipe.choices} - known)
        if unknown:
            raise UsageError(f"the recipe uses {', '.join(unknown)}", hint=f"known: {', '.join(sorted(known))}")
        return {name: {c.layer: c.setting for c in self.recipe.choices if c.technique == name} for name in known}

    def _chosen(self, graph: Graph) -> Choices:
        assert self.goal is not None and self.data is not None
        self.store = Store(self._path, f"{self._model}/{self._key}")
        each = self.each if self.goal.axis == BYTES else None
        how = Measuring(self.data, self.store, self.amount, each, self.joint, self._tell)
        menu = Menu(graph, self.techniques, self.storage, how)
        task = Task(graph, self.goal, self.data, self._maker, self.amount, self.count, self._outcome, self._tell)
        chooser = Chooser(menu, task, None if self.storage is None else self.storage.name, bool(self.late))
        walk, count = chooser.choose()
        self._expect_kept(walk, count)
        if self.points:
            self._tell("front")
            self.front = self._measured(chooser.walks)
        return walk.settings(count)

    def _measured(self, walks: Sequence[Walk]) -> list[Outcome]:
        """Points along the first walk, and whatever was measured on others, from large to small."""
        first, *others = walks
        found = [first.result(k) for k in first.spread(self.points)]
        found += [walk.result(k) for walk in others for k in sorted(walk.known)]
        once = {repr(o.recipe.choices): o for o in found}
        return sorted(once.values(), key=lambda o: -self.amount(o.work))

    def _expect_admitted(self, loss: Loss | None) -> None:
        """UsageError if what a recipe made is beyond the limits."""
        if loss is not None and self.data is not None and not self.data.judge.limits.admit(loss.standing):
            raise UsageError(
                f"the recipe costs too much: {loss}, and {_told(self.data.judge.limits)}", hint="loosen the limits"
            )

    def _expect_kept(self, walk: Walk, count: int) -> None:
        """UsageError if the goal is beyond the limits."""
        limits, found = walk.task.limits, walk.result(count, late=True)
        if limits == Limits() or walk.admits(count, late=True):
            return
        within = self.amount(walk.result(walk.most(count - 1)).work)
        raise UsageError(
            f"the goal costs too much: {found.loss}, and {_told(limits)}",
            hint=f"within that, {walk.task.goal.axis} of {within:.4g} were reached, from {self.amount(self.whole):.4g}",
        )

    def _outcome(self, choices: Choices, work: Work, loss: Loss | None, recovered: bool) -> Outcome:
        made = [Choice(layer, name, setting) for name, by in choices.items() for layer, setting in by.items()]
        measured: Mapping[str, object] = {
            "parameters": [self.whole.parameters, work.parameters],
            "macs": [self.whole.macs, work.macs],
            "bytes": [round(self.whole.nbytes(self.each)), round(work.nbytes(self.each))],
            **({} if loss is None else loss.as_json()),
        }
        options = dict(self.options)
        if self._maker.recovers and not recovered:
            options = {**{k: v for k, v in options.items() if k not in RECOVERED}, "recover": "none"}
        return Outcome(work, loss, Recipe(self._model, options, sorted(made, key=lambda c: c[:2]), measured))


class _Naming(Unobserved):
    """Gives what takes the place of a layer's results their names: recipes know layers by them."""

    def fired(self, firing: Firing) -> None:
        for old, new in zip(firing.old, firing.new, strict=True):
            new.name = new.name or old.name


def _told(limits: Limits) -> str:
    asked = [] if limits.drop is None else [f"{limits.drop:.2%} may be lost"]
    asked += [] if limits.psnr is None else [f"{limits.psnr:g} dB are asked for"]
    return " and ".join(asked)

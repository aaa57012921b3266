"""A compressed model from what was chosen for its layers: techniques, recoveries, and the storage of weights at last.

What recovers accuracy changes weights, so that they are rounded behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from compiler.graph import Graph
from compiler.tensor import Array
from passes._bits_technique import WeightBits
from passes._compress_apply import Choices, apply_all
from passes._compress_judge import Judge, Loss
from passes._compression import Recovery, Rows, Technique, Work
from passes._fitted import data_of, set_data
from passes._zeros import has_many_zeros


class Data(NamedTuple):
    """Rows to fit weights to, fewer of them for a single layer, the judge of the results, and all rows that late
    recoveries may learn from, if these are others."""

    rows: Rows
    few: Rows
    judge: Judge
    all: Rows | None = None


class Stage(NamedTuple):
    """After a technique or a recovery: its layers, the work that is left, and the distance from the original so far. A
    recovery has a number of constants in place of layers, and may have been `undone`."""

    technique: str
    layers: Sequence[str]
    work: Work
    loss: Loss | None
    constants: int = 0
    undone: bool = False

    def __str__(self) -> str:
        told = f"{self.what}: {self.work.parameters} parameters, {self.work.macs} MACs"
        return told if self.loss is None else f"{told}; {self.loss}"

    @property
    def what(self) -> str:
        """Its name and what it changed."""
        if self.layers:
            return f"{self.technique} of {len(self.layers)} layers"
        if not self.constants:
            return f"{self.technique} found nothing better"
        return f"{self.technique} of {self.constants} constants{', undone as it made that worse' * self.undone}"


class Made(NamedTuple):
    """What came of choices: stage by stage, in the end, and layers in which nothing was left to save."""

    stages: Sequence[Stage]
    loss: Loss | None
    left: Sequence[str]


class Maker:
    """Of one model.

    techniques  in the order in which they are applied
    storage     of weights, None: as they are
    recoveries, late
                run on those models alone for which it is asked; the late ones learn from all rows
    data        None: nothing is fitted, recovered or measured
    count       the work of a graph
    digest      of a graph: recoveries of the same one are run once
    """

    def __init__(
        self,
        techniques: Sequence[Technique],
        count: Callable[[Graph], Work],
        digest: Callable[[Graph], str],
        *,
        storage: WeightBits | None = None,
        recoveries: Sequence[Recovery] = (),
        late: Sequence[Recovery] = (),
        data: Data | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.techniques, self.storage, self.data = techniques, storage, data
        self.recoveries, self.late = recoveries, late
        self._count, self._digest, self._tell = count, digest, tell
        self._known: dict[tuple[str, str], Mapping[tuple[int, int], Array]] = {}

    @property
    def names(self) -> list[str]:
        """Of the techniques and the storage."""
        return [t.name for t in (*self.techniques, *([] if self.storage is None else [self.storage]))]

    @property
    def recovers(self) -> bool:
        """Whether there are recoveries."""
        return self.data is not None and bool(self.recoveries or self.late)

    def outline(self, graph: Graph, choices: Choices) -> None:
        """Make a graph of the right size, with numbers of no use."""
        apply_all(graph, self.techniques, choices, None)
        if self.storage is not None:
            self.storage.mark(graph, choices.get(self.storage.name, {}))

    def make(self, graph: Graph, choices: Choices, late: bool = False, each: bool = False) -> Made:
        """Compress a graph, with recoveries if it is `late`, and measure it: after `each` stage, or else at the end and
        where a recovery has to be judged."""
        recoveries = (*self.recoveries, *self.late) if late and self.data is not None else ()
        shaped = any(choices.get(t.name) for t in self.techniques)
        before = graph.clone() if recoveries and shaped else None
        stages: list[Stage] = []

        def watch(name: str, layers: Sequence[str]) -> None:
            self._tell(f"measure {name}" if each else name)
            stages.append(Stage(name, layers, self._count(graph), self._loss(graph) if each else None))

        rows = None if self.data is None else self.data.rows
        left = apply_all(graph, self.techniques, choices, rows, watch)
        if before is not None and stages:
            for recovery in recoveries:
                stages.append(self._recovered(recovery, before, graph, stages[-1]))
        if self.storage is not None:
            asked = choices.get(self.storage.name, {})
            bits = {layer: s for layer, s in asked.items() if self.storage.rounds(graph, layer, s)}
            left = [*left, *(layer for layer in asked if layer not in bits)]
            if bits:
                self.storage.apply(graph, bits, rows)
                watch(self.storage.name, list(bits))
        loss = stages[-1].loss if stages else None
        return Made(stages, self._loss(graph) if loss is None else loss, left)

    def _loss(self, graph: Graph) -> Loss | None:
        return None if self.data is None else self.data.judge.loss(graph)

    def _recovered(self, recovery: Recovery, before: Graph, graph: Graph, last: Stage) -> Stage:
        """Run a recovery, and take it back if that made the model worse on the rows of the judge."""
        assert self.data is not None
        self._tell(recovery.name)
        old = last.loss or self.data.judge.loss(graph)
        made = self._constants(recovery, before, graph)
        nodes = list(graph.nodes)
        kept = [(nodes[n], data, i) for (n, i), data in sorted(made.items(), key=lambda item: item[0])]
        past = [(node, data_of(node.inputs[i]), i) for node, _, i in kept]
        for node, data, i in kept:
            set_data(graph, node, i, data)
        new = self.data.judge.loss(graph)
        undone = bool(kept) and not self.data.judge.prefers(new, old)
        for node, data, i in past if undone else ():
            set_data(graph, node, i, data)
        return Stage(recovery.name, (), last.work, old if undone else new, len(kept), undone)

    def _constants(self, recovery: Recovery, before: Graph, graph: Graph) -> Mapping[tuple[int, int], Array]:
        """New data for operands, by the places of layers and operands. Weights that were pruned stay so."""
        assert self.data is not None
        late = any(recovery is r for r in self.late)
        key = recovery.name, self._digest(graph)
        if key in self._known:
            return self._known[key]
        twin = graph.clone()
        recovery.run(before, twin, (self.data.all or self.data.rows) if late else self.data.rows)
        found: dict[tuple[int, int], Array] = {}
        for n, (a, b) in enumerate(zip(graph.nodes, twin.nodes, strict=True)):
            for i, (v, w) in enumerate(zip(a.inputs, b.inputs, strict=True)):
                if v is not None and v.data is not None and data_of(w) is not v.data:
                    found[n, i] = _still_pruned(v.data, data_of(w))
        self._known[key] = found
        return found


def _still_pruned(old: Array, new: Array) -> Array:
    if not has_many_zeros(old):
        return new
    data = np.where(old == 0, old, new)
    data.flags.writeable = False
    return data

"""Choose the observer whose ranges, all together, leave the outputs of a model most accurate.

How far to clip a value is judged by its own error otherwise, which knows nothing of what later layers make of it: where
large numbers are rare but decide, clipping them costs more than coarser steps do. No way to choose ranges is best for
all networks (H. Wu et al., Integer Quantization for Deep Learning Inference: Principles and Empirical Evaluation,
2020).
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Firing, Observer
from passes._repair import LEAST_DB, Judge, Observers, mean, worst_loss


class ChooseRanges(Pass):
    """The observer of all values of a graph that is to be annotated. Without a `judge` and `observers` the pass does
    nothing."""

    error_class = ErrorClass.EXACT
    judge: Judge | None = None
    observers: Observers | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        if self.judge is None or self.observers is None or not self.judge.admits(graph) or not observer.allow():
            return 0
        candidates = self.observers.candidates(graph)
        if len(candidates) < 2:
            return 0
        ratios = {name: self.judge.scores_by(graph, ranges) for name, ranges in candidates.items()}
        usual = next(iter(ratios))
        scores = {name: mean(found) for name, found in ratios.items()}
        fair = [name for name, found in ratios.items() if worst_loss(ratios[usual], found) <= LEAST_DB]
        best = max(fair, key=lambda name: scores[name])
        told = ", ".join(f"{name} {db:.2f} dB" for name, db in scores.items())
        if scores[best] < scores[usual] + LEAST_DB:
            observer.skipped("ranges", next(iter(graph.nodes)), told)
            return 0
        self.observers.choose(best)
        observer.fired(Firing(f"ranges of {best}: {told}", (), (), (), (), ()))
        return 1

    def __str__(self) -> str:
        return self.pass_name()

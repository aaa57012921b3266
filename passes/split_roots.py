"""Cut the inverse root of a sum of squares in two where no single scale suits it.

(s + c)^-1/2 = (min(s, t) + c)^-1/2 ((t + c) / (max(s, t) + c))^1/2 for any t: one factor has the codes of small sums
for itself, the other those of large ones, so that 8 bits show rows whose energies differ a thousandfold. The form is
this project's own; the sums are those of the normalisations that expand-int8 writes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.graph import Graph
from compiler.ops.activation import Clip
from compiler.ops.elementwise import Add, Mul, Pow
from compiler.pass_base import Pass
from compiler.rewrite import Observer
from passes._repair import Judge
from passes._roots import Root, roots, then

LEAST_RATIO = 32.0  # between the largest and the smallest sum


class SplitRoots(Pass):
    """All roots of sums that reach over such a ratio, or none. Without a `judge` the pass does nothing."""

    judge: Judge | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        found = roots(graph)
        if self.judge is None or not self.judge.admits(graph) or not found:
            return 0
        seen = self.judge.trial(graph).ranges(graph)
        spans = [seen[r.shifted] for r in found]
        wide = [i for i, (low, high) in enumerate(spans) if low > 0 and high > LEAST_RATIO * low]
        middles = [float(np.sqrt(spans[i][0] * spans[i][1])) - found[i].constant for i in wide]
        choice = {f"{len(wide)} roots": lambda twin: _split_all(twin, wide, middles)} if wide else {}
        return self.judge.settle(graph, "split", choice, found[0].node, observer)

    def __str__(self) -> str:
        return self.pass_name()


def _split_all(graph: Graph, places: Sequence[int], middles: Sequence[float]) -> None:
    found = roots(graph)
    for place, middle in zip(places, middles, strict=True):
        _split(graph, found[place], max(middle, 0.0))


def _split(graph: Graph, root: Root, middle: float) -> None:
    sums = then(graph, root, root.product.op, *root.product.inputs)  # again: rounded to steps of its own
    small = root.moved(graph, then(graph, root, Clip(high=middle), sums))
    large = then(graph, root, Clip(low=middle), root.sum)
    near, far = (then(graph, root, Pow(), then(graph, root, Add(), v, root.constant), -0.5) for v in (small, large))
    scaled = then(graph, root, Mul(), near, float(np.sqrt(middle + root.constant)))
    graph.replace(root.node.output, then(graph, root, Mul(), scaled, far))
    graph.erase_unread([root.node])

"""Absorb what all numbers of a channel have in common into the bias of the layers that read it.

High biases make the ranges of channels lie far from 0 and from each other. With c no larger than the least number that
a channel has, relu(x - c) + c = relu(x), so that c can go from the bias of one layer into that of the next (M. Nagel et
al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, section 4.1.3); here c is a tenth of
the channel's range below the least number seen. Without an activation in between any c will do, and the middle of the
range does best.
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import Pass
from compiler.rewrite import Observer
from passes._repair import Judge
from passes._scales import Factors
from passes._shifts import shift, shifts


class AbsorbBias(Pass):
    """Between convolutions and dense layers of which the latter pad nothing, through at most a ReLU, means and moves;
    all of them or none. Without a `judge` the pass does nothing."""

    judge: Judge | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        if self.judge is None or not self.judge.admits(graph):
            return 0
        factors = Factors(graph)
        if not factors.takes:
            return 0
        by = shifts(graph, factors, self.judge.channels(graph))
        if not by.any():
            return 0
        first = next(e.node for e in factors.gives if by[e.ids].any())
        channels = f"{int((by != 0).sum())} channels"
        return self.judge.settle(graph, "absorb", {channels: lambda twin: shift(twin, by)}, first, observer)

    def __str__(self) -> str:
        return self.pass_name()

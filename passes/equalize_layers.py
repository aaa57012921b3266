"""Equalise the ranges of the channels of each value, so that one scale suits all of them.

A factor on a channel of what one layer computes, undone in the weights of the layers that read it, leaves the results
of a network as they are through activations with f(s x) = s f(x) (M. Nagel et al., Data-Free Quantization Through
Weight Equalization and Bias Correction, 2019; E. Meller et al., Same, Same But Different: Recovering Neural Network
Quantization Error Through Weight Factorization, 2019). Weights have a scale for each channel here, so that what is made
equal are the ranges of activations, as rows of data show them.
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import Pass
from compiler.rewrite import Observer
from passes._repair import Judge
from passes._scale_trial import settle_scales

ALPHAS = (1.0,)  # 1: all channels of a value reach equally far


class EqualizeLayers(Pass):
    """Channels between convolutions, dense layers and batch normalisations, also through ReLU, LeakyReLU, PReLU, pools,
    means, pads, sums, concatenations and moves; all of them or none. Without a `judge` the pass does nothing."""

    judge: Judge | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        return settle_scales(graph, self.judge, "equalize", ALPHAS, False, observer)

    def __str__(self) -> str:
        return self.pass_name()

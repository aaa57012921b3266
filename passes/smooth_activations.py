"""Move the spread of activations behind normalisations and in attention into the weights that read them.

SmoothQuant (G. Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models,
2022): channel j of an activation is divided by max|X_j|^a / max|W_j|^(1-a), and the weights of the layers behind it are
multiplied by that. The factors go into the scale of the normalisation, into the weights of the projection whose results
attention mixes, or into a product that is added where the normalisation has no scale of its own.
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import Pass
from compiler.rewrite import Observer
from passes._repair import Judge
from passes._scale_trial import settle_scales

ALPHAS = (0.5, 0.75)


class SmoothActivations(Pass):
    """Channels that normalisations, products with a vector and attention give to dense layers; all of them or none.
    Without a `judge` the pass does nothing."""

    judge: Judge | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        return settle_scales(graph, self.judge, "smooth", ALPHAS, True, observer)

    def __str__(self) -> str:
        return self.pass_name()

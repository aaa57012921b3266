"""Move the mean error of each quantized layer into its bias.

Rounding shifts what a layer gives on average, and the shifts add up from layer to layer. Layer by layer, in order, the
mean of each channel on rows of data is compared with that in floats, and the difference added to the bias (empirical
bias correction: M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019;
A. Finkelstein et al., Fighting Quantization Bias With Bias, 2019).
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Observer
from passes._bias import add_to_bias, has_bias, mean_errors
from passes._repair import Judge


class CorrectBias(Pass):
    """Biases of convolutions and dense layers of an annotated graph; all of them or none. Without a `judge` the pass
    does nothing."""

    error_class = ErrorClass.LOSSY
    judge: Judge | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        if self.judge is None or not self.judge.admits(graph):
            return 0
        floats = self.judge.floats
        if floats is None or len(floats) != len(graph):
            floats = graph
        layers = [n for n in graph.nodes if has_bias(n)]
        if not layers:
            return 0
        errors = mean_errors(graph, floats, self.judge.rows(graph))

        def apply(twin: Graph) -> None:
            for i, node in enumerate(list(twin.nodes)):
                if i in errors:
                    add_to_bias(twin, node, errors[i])

        return self.judge.settle(graph, "correct", {f"{len(errors)} biases": apply}, layers[0], observer)

    def __str__(self) -> str:
        return self.pass_name()

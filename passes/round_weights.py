"""Round each weight up or down so that what its layer computes on rows of data changes least.

The choice is one of local least squares, without labels (M. Nagel et al., Up or Down? Adaptive Rounding for
Post-Training Quantization, 2020), solved with the second-order statistics of what the layer reads by error feedback
(E. Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, 2022) and by
coordinate descent. The weights then are on the grid, and the shared rounding function leaves them there.
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Observer
from passes._fitted import set_data
from passes._repair import Judge
from passes._weight_choice import choose


class RoundWeights(Pass):
    """Constant weights of convolutions and matrix products of an annotated graph; all of them or none. Without a
    `judge` the pass does nothing."""

    error_class = ErrorClass.LOSSY
    judge: Judge | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        if self.judge is None or not self.judge.admits(graph):
            return 0
        chosen = choose(graph, self.judge.rows(graph))
        if not chosen:
            return 0
        places = {node: i for i, node in enumerate(graph.nodes)}
        data = {places[node]: array for node, array in chosen.items()}

        def apply(twin: Graph) -> None:
            for i, node in enumerate(list(twin.nodes)):
                if i in data:
                    set_data(twin, node, 1, data[i])

        return self.judge.settle(graph, "round", {f"{len(data)} weights": apply}, next(iter(chosen)), observer)

    def __str__(self) -> str:
        return self.pass_name()

"""Store values that 16-bit floats cannot hold smaller by a power of two, which later layers take up.

Multiplying by 2^-e is exact, and commutes with rectifiers, pools, sums and moves; weights and biases of linear layers,
the epsilon of normalisations and the alpha of local response normalisation absorb it. Scaling between layers that are
positively homogeneous is that of M. Nagel et al., Data-Free Quantization (arXiv:1906.04721), here by powers of two.
"""

from __future__ import annotations

from collections.abc import Mapping

from compiler.graph import Graph, Value
from compiler.pass_base import Pass, replace_layer
from compiler.rewrite import Observer
from compiler.spans import Spans
from passes._masks import hiding
from passes._rescale import PRODUCTS, Bounds, Peaks, Rescaling


class RescaleValues(Pass):
    """One firing for all of a graph.

    largest      what the element type holds
    accumulator  what sums of products hold
    margin       how many times larger than its peak a value may become
    peaks        the largest magnitude of values; None: of those that go beyond for every input
    """

    adds_work = True  # a factor in front of a layer that cannot take it up
    largest: float = 65504.0
    accumulator: float = 65504.0
    margin: float = 4.0
    peaks: Peaks | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        bounds = Bounds(self.largest, self.accumulator, self.margin)
        hidden = hiding(graph, compared=True)
        peaks = self._proved(graph) if self.peaks is None else self.peaks(graph)
        peaks = {v: peak for v, peak in peaks.items() if v not in hidden or peak > self.largest}
        if not any(self._exceeds(v, peak) for v, peak in peaks.items()):
            return 0
        scaled = Rescaling(graph, peaks, bounds)
        fired = replace_layer(graph, "rescale", scaled.old, scaled.new, scaled.added, observer)
        return int(fired is not None)

    def _exceeds(self, v: Value, peak: float) -> bool:
        product = v.node is not None and isinstance(v.node.op, PRODUCTS)
        return 1.5 * peak > (self.accumulator if product else self.largest)

    def _proved(self, graph: Graph) -> Mapping[Value, float]:
        spans = Spans(graph)
        values = [v for node in graph.nodes for v in node.outputs if v.type.dtype.is_float]
        return {v: spans[v].size for v in values if spans[v].is_bounded and spans[v].least > self.largest}

    def __str__(self) -> str:
        return self.pass_name()

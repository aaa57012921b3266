"""Set single weights to zero: a share of them, or all but N of every M neighbours.

Weights of least magnitude go (S. Han et al., Learning both Weights and Connections for Efficient Neural Networks, 2015;
A. Mishra et al., Accelerating Sparse Deep Neural Networks, 2021, for 2:4), or with rows of data those whose layers err
least without them (E. Frantar & D. Alistarh, SparseGPT, 2023); the others are then fitted, in closed form, to what the
layers gave. Tensors stay dense, with exact zeros.
"""

from __future__ import annotations

from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Firing, Observer
from passes._compression import Rows
from passes._fitted import data_of
from passes._prune_mask import Pattern
from passes._prune_sparse import layers_for, pattern_of, prune, thresholded


class PruneWeights(Pass):
    """Constant weights of convolutions, but for those of each channel alone, and of matrix products.

    amount   share that becomes zero
    pattern  N:M instead: N of M neighbouring input channels are left; layers whose channels M does not divide stay
    scope    layer: the share of each layer; graph: the smallest of the whole graph
    rows     rows of data
    """

    error_class = ErrorClass.LOSSY
    amount: float = 0.5
    pattern: str = ""
    scope: str = "layer"
    rows: Rows | None = None

    def validate(self) -> None:
        if not 0 <= self.amount < 1 or self.scope not in ("layer", "graph"):
            raise UsageError(
                f"amount={self.amount}, scope={self.scope!r}: needs a share from 0 to 1, and layer or graph"
            )
        if self.pattern:
            pattern_of(self.pattern)

    def run(self, graph: Graph, observer: Observer) -> int:
        wanted = pattern_of(self.pattern) if self.pattern else Pattern(self.amount)
        nodes = layers_for(graph, wanted)
        per_layer = self.scope == "layer" or wanted.of
        chosen = [wanted] * len(nodes) if per_layer else thresholded(nodes, self.amount)
        if not nodes or not observer.allow():
            return 0
        changed = prune(graph, dict(zip(nodes, chosen, strict=True)), self.rows)
        weights = [data_of(n.inputs[1]) for n in changed]
        if changed:
            share = sum(int((w == 0).sum()) for w in weights) / sum(w.size for w in weights)
            observer.fired(Firing(f"{len(changed)} weights, {share:.1%} zeros", (), (), (), (), ()))
        return int(bool(changed))

    def __str__(self) -> str:
        return str(self.with_(rows=None)) if self.rows else super().__str__()

"""Remove channels that matter little, with everything that is coupled to them.

Channels go from the weights and biases that compute and read them, from normalisations and constants in between, and
from the shapes of what moves them (G. Fang et al., DepGraph: Towards Any Structural Pruning, 2023). What stays is as if
the channels that went were zeros for all that read them; with rows of data the layers that read are then fitted, in
closed form, to what they gave before (Y. He et al., Channel Pruning for Accelerating Very Deep Neural Networks, 2017).
"""

from __future__ import annotations

from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Observer
from passes._compression import Rows
from passes._prune_choice import IMPORTANCES, Plan
from passes._prune_technique import remove

MOST = 0.9  # largest share of the channels of a layer that a threshold takes


class PruneChannels(Pass):
    """Channels of the whole graph.

    amount      share that goes: of each set of coupled layers, or of the whole graph by one threshold
    scope       layer or graph
    multiple    numbers of channels that stay are multiples of it; layers that have no such number stay
    importance  l1, l2: norms of weights; scale: of batch normalisations; activation: mean squares on rows;
                reconstruction: what readers err after a fit; auto: reconstruction with rows, else l2
    fit         fit the weights of layers behind to the rows of data
    """

    error_class = ErrorClass.LOSSY
    amount: float = 0.3
    scope: str = "layer"
    multiple: int = 1
    importance: str = "auto"
    fit: bool = True
    rows: Rows | None = None

    def validate(self) -> None:
        if not 0 <= self.amount < 1 or self.multiple < 1:
            raise UsageError(
                f"amount={self.amount}, multiple={self.multiple}: needs a share from 0 to 1 and a multiple"
            )
        if self.scope not in ("layer", "graph") or self.importance not in IMPORTANCES:
            known = f"scope is layer or graph, importance one of {', '.join(IMPORTANCES)}"
            raise UsageError(f"scope={self.scope!r}, importance={self.importance!r}: {known}")
        if self.importance in ("activation", "reconstruction") and self.rows is None:
            raise UsageError(f"importance={self.importance!r} needs rows of data, and there are none")

    def run(self, graph: Graph, observer: Observer) -> int:
        plan = Plan(graph, self.importance, self.rows, max(self.amount, MOST if self.scope == "graph" else 0.0))
        share = plan.share(self.amount, self.multiple)
        gone = share if self.scope == "layer" else plan.threshold(self.amount, self.multiple, MOST)
        return int(bool(remove(graph, plan, gone, self.rows if self.fit else None, observer)))

    def __str__(self) -> str:
        return str(self.with_(rows=None)) if self.rows else super().__str__()

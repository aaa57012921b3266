"""Split layers into products of low rank: fewer parameters and multiply-accumulates for a known error.

With `rows` of data the split of a layer is the one whose results are nearest to those of the model as it was, on what
the layer reads once all before it are split; without, the one whose weight is nearest (C. Eckart, G. Young, 1936).
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Observer
from passes._compression import Cost, Rows, macs_of, work_of
from passes._low_rank import LEAST, Splits
from passes._low_rank_policy import Policy


class LowRank(Pass):
    """Dense layers, convolutions and tables of rows, by one rule for the ranks (`Policy`; 99 % of the energy if none is
    given) and for the forms, alignment, size and cost of `Splits`. The lookup of a split table adds a product."""

    error_class = ErrorClass.LOSSY
    adds_work = True
    bound = "off by at most the root of the expected error times the norms of weight and input (without rows)"
    rank: int = 0
    ratio: float = 0.0
    energy: float = 0.0
    error: float = 0.0
    dimension: str = ""
    parameters: float = 0.0
    macs: float = 0.0
    seconds: float = 0.0
    forms: str = "matrix,tucker,spatial,polyadic"
    multiple: int = 1
    least: int = LEAST
    cost: Cost | None = None
    rows: Rows | None = None

    def validate(self) -> None:
        self._policy().validate(timed=self.cost is not None)
        self._splits()

    def run(self, graph: Graph, observer: Observer) -> int:
        splits = self._splits()
        menus = list(splits.menus(graph, self.rows, self.rank))
        chosen = self._policy().choose(menus, work_of(graph.nodes, self.cost or macs_of))
        for menu, choice in chosen:
            if isinstance(choice, str):
                observer.skipped("split", menu.node, choice)
        return splits.settle(graph, chosen, self.rows, observer) if observer.allow() else 0

    def _policy(self) -> Policy:
        given = {name: getattr(self, name) for name in Policy._fields if getattr(self, name)}
        return Policy(**(given or {"energy": 0.99}))

    def _splits(self) -> Splits:
        return Splits(tuple(self.forms.split(",")), self.multiple, self.least, self.cost)

    def __str__(self) -> str:
        return str(self.with_(cost=None, rows=None)) if self.cost or self.rows else super().__str__()

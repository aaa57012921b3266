"""Say in how few bits weights are stored: integers with scales for channels or blocks, or places in a table.

Only weights are stored so; what is computed stays in floats, on numbers that the device expands when it loads or runs
the model. The constants themselves stay as they are: a target that stores them rounds.
"""

from __future__ import annotations

from collections import Counter

from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Firing, Meter, Observer
from passes._storage import keep, storages_of
from passes._weight_bits import BLOCK, annotate, bits_of, expect_kind


class AnnotateWeights(Pass):
    """Weights as int8, int4 or palette1, 2, 3, 4, 6 or 8 (`kind`; without one the pass does nothing), with a scale for
    each `block` elements that are summed over, or a table for each `block` results (0: a scale for each result, one
    table; by default 32 for int4 and 0 for the others); `halves`: of numbers that fp16 holds. `kept`, instead of a
    kind: storages, as int8+palette4/16, of which the first that holds the very numbers of a weight is taken."""

    error_class = ErrorClass.EXACT
    kind: str = ""
    block: int | None = None
    halves: bool = False
    kept: str = ""

    def validate(self) -> None:
        if self.kind:
            expect_kind(self.kind, self.block)
        storages_of(self.kept)

    @property
    def size(self) -> int:
        """The block that is asked for."""
        return (BLOCK if self.kind == "int4" else 0) if self.block is None else self.block

    def run(self, graph: Graph, observer: Observer) -> int:
        storages = storages_of(self.kept)
        if not (self.kind or storages) or not observer.allow():
            return 0
        found: Counter[str] = Counter()
        for v in graph.constants:
            if not v.type.dtype.is_float or not v.users or v.type.rank < 2:
                continue
            kept = None if self.kind else keep(v, storages, self.halves)
            reason = annotate(v, self.kind, self.size, self.halves) if self.kind else kept
            if reason is None:
                found.update(weights=1, bytes_before=v.type.nbytes, bytes_after=bits_of(v) // 8)
            else:
                observer.skipped(f"{self.kind or self.kept} weight {v.name}", next(iter(v.users)), reason)
                found.update(skipped=1)
        if isinstance(observer, Meter):
            observer.measured("weights", found)
        observer.fired(Firing(f"{found['weights']} weights in {self.kind or self.kept}", (), (), (), (), ()))
        return 1

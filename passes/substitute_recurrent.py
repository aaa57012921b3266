"""Take the steps of a recurrent layer one by one, for accelerators that have no layer for them.

The products with the inputs of all steps are one dense layer, whose rows are the steps."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Value
from compiler.ops.recurrent import Recurrent
from compiler.pass_base import RewritePass
from compiler.rewrite import Result, Rule, Skip
from passes._decompose import Layers
from passes._decompose_recurrent import unrolled
from passes._substitute import instead_of


class SubstituteRecurrent(RewritePass):
    """LSTM, GRU and RNN of at most `steps` steps become the layers of each step."""

    adds_work = True  # two directions of few hidden numbers take their steps together, with products by zeros
    steps: int = 64

    def rules(self) -> tuple[Rule, ...]:
        return tuple(instead_of(op, self._parts) for op in (ops.LSTM, ops.GRU, ops.RNN))

    def _parts(self, add: Layers, op: Recurrent, x: Value, *others: Value | None) -> Result:
        count = x.type.dims[0]
        if count > self.steps:
            return Skip(f"{count} steps are more than {self.steps}, which would make a chain of layers too long")
        return unrolled(add, op, x, *others)

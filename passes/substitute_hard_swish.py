"""Compute hard swish by ReLU6, for accelerators that have no kernel of it: x relu6(x + 3) / 6 (Howard et al.,
arXiv:1905.02244)."""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.activation import Clip, HardSwish
from compiler.ops.elementwise import Add, Mul
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: HardSwish, x: Value) -> Value:
    """The gate first: it has a range that needs no calibration, and its division by 6 only renames integers."""
    gate = add(Clip(low=0.0, high=6.0), add(Add(), x, 3.0))
    return add(Mul(), x, add(Mul(), gate, 1 / 6))


class SubstituteHardSwish(RewritePass):
    """Layers of hard swish become a sum, a clip and two products."""

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(HardSwish, parts),)

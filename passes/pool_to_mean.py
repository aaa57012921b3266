"""Compute the average pool of whole images as a mean.

Both are the same sum over the same count. In integers a pool keeps the scale of its operand, as targets ask, and a mean
has a scale of its own: the average of an image reaches nowhere near its largest number.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.pool import AveragePool, GlobalAveragePool
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


class PoolToMean(RewritePass):
    """Average pools with one window, the whole image without padding, become `global_average_pool`."""

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(AveragePool, _mean),)


def _mean(add: Layers, op: AveragePool, x: Value) -> Value | None:
    whole = op.kernel == x.type.dims[2:] and not any(op.pads)
    return add(GlobalAveragePool(), x) if whole else None

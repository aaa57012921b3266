"""Compute grouped convolutions by ordinary ones, for accelerators that only have these: one for each group, or a
single one with zeros between groups where an array of multipliers takes no longer for it."""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.activation import Clip, Relu
from compiler.ops.conv import Conv
from compiler.ops.parts import Concat
from compiler.pass_base import RewritePass
from compiler.pattern import Layer
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._grouped import to_parts, ungrouped
from passes._substitute import instead_of

RECTIFIED = Layer((Relu, Clip), Layer(Concat, rest=True))


class SubstituteGroupedConv(RewritePass):
    """Convolutions with groups of more than one channel become one for each group, with the rectifier behind them.
    `array` multipliers stand in each row and column of the accelerator: where a kernel of all groups, with zeros
    between them, takes no more passes through the array, it is one convolution. 0 if that is not known."""

    adds_work = True
    array: int = 0

    def rules(self) -> tuple[Rule, ...]:
        return instead_of(Conv, self._parts), Rule(RECTIFIED, to_parts)

    def _parts(self, add: Layers, op: Conv, x: Value, w: Value, b: Value | None = None) -> Value | None:
        return ungrouped(add, op, (x, w, b), self._passes)

    def _passes(self, channels: int, filters: int) -> int:
        """Of one convolution: of a single multiplier where the array is not known, so that zeros never pay."""
        width = self.array or 1
        return -(-channels // width) * -(-filters // width)

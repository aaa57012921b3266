"""What a target demands of quantized values, as data, and the ranges they were seen in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from compiler.graph import Graph, Node, Value
from compiler.tensor import I8, I16, QuantParams

Range = tuple[float, float]
Ranges = Mapping[Value, Range]  # the smallest and the largest number that each value was seen to hold
Calibrate = Callable[[Graph], Ranges]


class Scheme:
    """Operations are named as in the layer graph.

    same      results have the parameters of the operands
    fixed     scale and zero point of the result, whatever the numbers are
    weights   the operand that is a weight where it is constant, and the axis that has parameters of its own for each
              place (None: the rows or columns that give one result); the operand behind it is the bias
    integer   computed in integers; between other layers values stay floats
    wide      computed in 16 bits too, with weights of 8
    fixed16   scale and zero point of the result there
    """

    def __init__(
        self,
        same: Iterable[str],
        fixed: Mapping[str, QuantParams],
        weights: Mapping[str, tuple[int, int | None]],
        integer: Iterable[str],
        wide: Iterable[str] = (),
        fixed16: Mapping[str, QuantParams] | None = None,
    ) -> None:
        self.same = frozenset(same)
        self.fixed = fixed
        self.weights = weights
        self.integer = frozenset(integer)
        self.wide = frozenset(wide)
        self.fixed16 = fixed16 or {}

    def is_integer(self, node: Node) -> bool:
        """Whether the target computes a layer in integers."""
        return node.op.name in self.integer or node.op.name in self.same

    def weight_of(self, node: Node) -> tuple[Value, int, int] | None:
        """The constant weight of a layer, which operand it is, and the axis of its results; None if it has none."""
        index, axis = self.weights.get(node.op.name, (0, 0))
        v = node.inputs[index] if index and index < len(node.inputs) else None
        if v is None or v.data is None or (node.op.name == "matmul" and v.type.rank != 2):
            return None
        if axis is None:
            axis = 0 if getattr(node.op, "transposed", False) else 1
        return v, index, axis

    @classmethod
    def from_data(cls, layers: Mapping[str, Any]) -> Scheme:
        """The scheme that a file of rules states."""
        fixed, fixed16 = (
            {name: QuantParams((scale,), (zero,), None, kind) for name, (scale, zero) in layers.get(key, {}).items()}
            for key, kind in (("fixed", I8), ("fixed16", I16))
        )
        weights = {name: (operand, axis) for name, (operand, axis) in layers["weights"].items()}
        return cls(layers["same"], fixed, weights, layers["integer"], layers.get("int16", ()), fixed16)

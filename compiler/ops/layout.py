"""The physical order of tensors: what an annotation `TensorType.layout` means, and the layer that changes it.

The logical shape, the attributes and the meaning of a layer never depend on it. A value without annotation lies in its
logical order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compiler.op import Emitter, Op, expect, op
from compiler.ops.elementwise import Sample
from compiler.tensor import Array, Layout, Shape, TensorType

if TYPE_CHECKING:
    import numpy as np

Order = tuple[int, ...]


@op("convert_layout")
class ConvertLayout(Op):
    """x, to be laid out in memory so that axis order[i] is the i-th from the outside.

    Inference annotates nothing: the pass that adds the layer annotates all values of the graph.
    """

    order: Order

    def infer(self, x: TensorType) -> TensorType:
        axes = list(range(x.rank))
        expect(sorted(self.order) == axes, f"order {list(self.order)} is no permutation of {x.rank} axes")
        return x

    def evaluate(self, x: Array) -> Array:
        return x

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("Identity", *inputs)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return cls(order=tuple(map(int, rng.permutation(x.rank)))), ()


def logical(rank: int) -> Order:
    """The order of a value without annotation."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """N, spatial axes, C, for a logical N, C, spatial axes."""
    return (0, *range(2, rank), 1)


def order_of(t: TensorType) -> Order:
    """The axes of a value from the outermost in memory to the innermost."""
    return logical(t.rank) if t.layout is None else t.layout.order


def in_order(t: TensorType, order: Order) -> TensorType:
    """The type annotated with an order; not annotated if that is the logical one."""
    return t._replace(layout=None if order == logical(t.rank) else Layout(order))


def physical_shape(t: TensorType) -> Shape:
    """The dimensions from the outermost in memory to the innermost."""
    return tuple(t.shape[i] for i in order_of(t))


def physical_axis(t: TensorType, axis: int) -> int:
    """Where a logical axis lies in memory, counted from the outermost."""
    return order_of(t).index(axis)


def aligned_shape(t: TensorType, out: TensorType) -> Shape:
    """The physical shape of an operand that broadcasts to `out`, with dimensions of 1 for the axes that it lacks."""
    missing = out.rank - t.rank
    return tuple(1 if i < missing else t.shape[i - missing] for i in order_of(out))


def moves(perm: Order, x: TensorType, y: TensorType) -> Order:
    """The permutation of x in memory that gives y in memory, where y is the logical transpose of x by `perm`."""
    at = order_of(x)
    return tuple(at.index(perm[i]) for i in order_of(y))


def in_memory(shape: Shape, order: Order) -> Order:
    """An order without the axes of length 1: equal ones put the elements at the same places."""
    return tuple([i for i in order if shape[i] != 1]) if 1 in shape else order

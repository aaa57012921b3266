"""What lowerings to TensorFlow share: values with an axis of runs, and the table that lowerings are registered in.

A run is one execution of a graph, whose shapes are static. In TensorFlow every value has one more axis at its front:
one element for each run, or a single one if the value is the same in all of them. So a function computes any number of
runs at once, whatever the batch of the graph and whatever its layers do to the first axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf

from compiler.graph import Node
from compiler.op import Op
from compiler.tensor import F32, F64, TensorType

Tensor = Any  # tf.Tensor: TensorFlow's types are not read by mypy


class Held:
    """A value in TensorFlow.

    Images [N,C,*S] are held as [runs,N,C,*S] or with their channels last, as [runs*N,*S,C], which is what convolutions
    and pools take; each form is made from the other when it is asked for.
    """

    __slots__ = ("_last", "_plain", "type", "varies")

    def __init__(
        self, type: TensorType, plain: Tensor | None = None, last: Tensor | None = None, varies: bool = True
    ) -> None:
        self.type, self.varies = type, varies
        self._plain, self._last = plain, last

    @property
    def is_last(self) -> bool:
        """Whether the channels are last and nobody has asked for another order."""
        return self._plain is None

    @property
    def plain(self) -> Tensor:
        """[runs,*shape]; [1,*shape] of a value that does not vary."""
        if self._plain is None:
            rank = self.type.rank
            images = tf.reshape(self._last, (-1, self.type.dims[0], *self.type.dims[2:], self.type.dims[1]))
            self._plain = tf.transpose(images, (0, 1, rank, *range(2, rank)))
        return self._plain

    @property
    def last(self) -> Tensor:
        """[runs*N,*S,C] of an image."""
        if self._last is None:
            images = tf.reshape(self._plain, (-1, *self.type.dims[1:]))
            self._last = tf.transpose(images, (0, *range(2, self.type.rank), 1))
        return self._last

    @property
    def single(self) -> Tensor:
        """[*shape] of a value that does not vary."""
        return self.plain[0]

    def aligned(self, rank: int) -> Tensor:
        """`plain` with axes of 1 before those of the shape, to broadcast with shapes of that rank."""
        missing = rank - self.type.rank
        return tf.reshape(self.plain, (-1, *[1] * missing, *self.type.dims)) if missing else self.plain


Lower = Callable[..., Any]  # (operation, type of the result, *operands) -> Tensor, Held, or a sequence of tensors
Condition = Callable[[Node], bool]


class Lowering(NamedTuple):
    """How an operation is computed, which layers of it, and which operands may not depend on the inputs."""

    function: Lower
    holds: Condition
    fixed: Sequence[int]


LOWERED: dict[type[Op], Lowering] = {}
L = TypeVar("L", bound=Lower)


def is_float(node: Node) -> bool:
    """Whether all operands and results are floats of 32 or 64 bits."""
    return all(v is None or v.type.dtype in (F32, F64) for v in (*node.inputs, *node.outputs))


def is_any(node: Node) -> bool:
    """Every layer of an operation."""
    return True


def lowers(*ops: type[Op], holds: Condition = is_float, fixed: Sequence[int] = ()) -> Callable[[L], L]:
    """Register a lowering for operations."""

    def register(function: L) -> L:
        LOWERED.update((op, Lowering(function, holds, fixed)) for op in ops)
        return function

    return register


def whole(xs: Sequence[Held]) -> list[Tensor]:
    """`plain` of all, each with all runs if one of them varies."""
    varying = next((x for x in xs if x.varies), None)
    if varying is None:
        return [x.plain for x in xs]
    runs = tf.shape(varying.plain)[0]
    return [x.plain if x.varies else tf.broadcast_to(x.plain, (runs, *x.type.dims)) for x in xs]


def after_runs(axes: Sequence[int]) -> list[int]:
    """Axes of a shape in a tensor that has one more at the front."""
    return [a + 1 for a in axes]

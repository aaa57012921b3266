"""Decompositions: what computes an operation where a target lacks it, written once for all targets.

A decomposition is a function `(add, op, *operands)`, registered for an operation class, that adds simpler layers and
returns the value (or one per result) that they compute, or None where it does not apply. Operands have known sizes of
at least one element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeVar

import numpy as np

from compiler.graph import Node, Value
from compiler.op import Op
from compiler.ops.elementwise import Cast
from compiler.ops.parts import Slice
from compiler.ops.shape import Expand, Reshape, Transpose
from compiler.rewrite import Builder
from compiler.tensor import BOOL, Array, DType, TensorType, type_of

Number = bool | int | float
Parts = Value | Sequence[Value] | None
Decomposition = Callable[..., Parts]
DECOMPOSITIONS: dict[type[Op], list[Decomposition]] = {}  # tried in the order of registration
SMALL = 1 << 10  # elements of a constant of equal ones
MADE = 1 << 28  # bytes of one constant that a decomposition makes at most
FOLDED = 1 << 24  # elements of constants up to which their layers are computed at once


class Layers:
    """Adds the layers of one decomposition. Numbers among the operands have the element type of the first value; what
    only constants go into becomes one."""

    __slots__ = ("_builder", "node")

    def __init__(self, builder: Builder, node: Node) -> None:
        self._builder = builder
        self.node = node

    def __call__(self, op: Op, *operands: Value | Number | None) -> Value:
        """The result of a layer that has one."""
        kinds = [v.type.dtype for v in operands if isinstance(v, Value)]
        like = next((d for d in kinds if d is not BOOL), BOOL)
        given = [self.const(v, like) if isinstance(v, Number) else v for v in operands]
        return self._folded(op, given) or self._builder.add(op, *given)

    def many(self, op: Op, *operands: Value) -> tuple[Value, ...]:
        """The results of a layer."""
        return self._builder.add_many(op, *operands)

    def _folded(self, op: Op, operands: Sequence[Value | None]) -> Value | None:
        arrays = [None if v is None else v.data for v in operands]
        if any(v is not None and v.data is None for v in operands):
            return None
        if any(a is not None and (a.size > FOLDED or a.dtype.kind not in "fiub") for a in arrays):
            return None
        result = np.asarray(op.evaluate(*arrays))
        wanted = op.infer(*(None if v is None else v.type for v in operands))
        assert isinstance(wanted, TensorType)
        return self._builder.const(result) if type_of(result) == wanted._replace(quant=None, layout=None) else None

    def const(self, data: Any, dtype: DType) -> Value:
        """A constant."""
        return self._builder.const(np.asarray(data), TensorType(dtype, ()))

    def like(self, data: Array, v: Value) -> Value:
        """A constant made of another one, whose name and provenance it has."""
        return self._builder.const(data, v)

    def filled(self, value: Number, dtype: DType, shape: Sequence[int]) -> Value:
        """One number everywhere; not written out where that is long."""
        single = self.const(value, dtype)
        return (
            self.expand(single, shape)
            if prod(shape) <= SMALL
            else self._builder.add(Expand(shape=tuple(shape)), single)
        )

    def cast(self, x: Value, dtype: DType) -> Value:
        """`x` in another element type."""
        return x if x.type.dtype is dtype else self._moved(Cast(to=dtype.name), x)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """`x` under another shape."""
        return x if x.type.shape == tuple(shape) else self._moved(Reshape(shape=tuple(shape)), x)

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """`x` with permuted axes."""
        return x if list(perm) == list(range(len(perm))) else self._moved(Transpose(perm=tuple(perm)), x)

    def expand(self, x: Value, shape: Sequence[int]) -> Value:
        """`x` broadcast to a shape."""
        return x if x.type.shape == tuple(shape) else self._moved(Expand(shape=tuple(shape)), x)

    def cut(self, x: Value, axis: int, begin: int, end: int, step: int = 1) -> Value:
        """The elements begin, begin + step, ... before end along one axis."""
        dims = x.type.dims
        if (begin, end, step) == (0, dims[axis], 1):
            return x
        starts, ends, steps = [0] * len(dims), list(dims), [1] * len(dims)
        starts[axis], ends[axis], steps[axis] = begin, end, step
        return self._moved(Slice(starts=tuple(starts), ends=tuple(ends), steps=tuple(steps)), x)

    def _moved(self, op: Op, x: Value) -> Value:
        return self._folded(op, [x]) or self._builder.add(op, x)


def is_plain(node: Node) -> bool:
    """Whether all sizes are known, none is 0, and no value has been given an order in memory."""
    types = [v.type for v in (*node.inputs, *node.outputs) if v is not None]
    return all(t.is_static and 0 not in t.shape and t.layout is None for t in types)


D = TypeVar("D", bound=Decomposition)


def decomposes(*ops: type[Op]) -> Callable[[D], D]:
    """Register one decomposition for several operations."""

    def register(function: D) -> D:
        for op in ops:
            DECOMPOSITIONS.setdefault(op, []).append(function)
        return function

    return register


def along(data: Array, axis: int, rank: int) -> Array:
    """A vector as an array of `rank` axes that has it along one of them."""
    return data.reshape([-1 if i == axis else 1 for i in range(rank)])

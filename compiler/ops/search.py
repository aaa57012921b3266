"""Finding elements: the largest ones, the positions of ones that hold, the distinct ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, expect, normalize_axis, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import widen
from compiler.tensor import BOOL, I64, Array, Dim, TensorType


class ArgExtreme(Op):
    """Base of the position of the largest or smallest element along `axis`: the first one, or the last."""

    axis: int = 0
    keepdims: bool = True
    select_last_index: bool = False
    best: ClassVar[Callable[..., Any]]

    def infer(self, x: TensorType) -> TensorType:
        expect(x.dtype.is_real, f"does not take elements of type {x.dtype}")
        expect(0 <= self.axis < x.rank, f"axis {self.axis} is out of range for rank {x.rank}")
        expect(x.shape[self.axis] != 0, f"axis {self.axis} of {x} has no element")
        kept = (1,) if self.keepdims else ()
        return TensorType(I64, (*x.shape[: self.axis], *kept, *x.shape[self.axis + 1 :]))

    def evaluate(self, x: Array) -> Array:
        wide = widen(x)
        if self.select_last_index:
            wide = np.flip(wide, self.axis)
        found = np.asarray(self.best(wide, self.axis, keepdims=self.keepdims), np.int64)
        return x.shape[self.axis] - 1 - found if self.select_last_index else found

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> ArgExtreme:
        return cls(
            axis=normalize_axis(node.attr("axis", 0), node.type(0).rank),
            keepdims=bool(node.attr("keepdims", 1)),
            select_last_index=bool(node.attr("select_last_index", 0)),
        )

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        keepdims, last = int(self.keepdims), int(self.select_last_index)
        return e.node(self.onnx, *inputs, axis=self.axis, keepdims=keepdims, select_last_index=last)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0 or 0 in x.shape or not x.dtype.is_real:
            return None
        keepdims, last = (bool(v) for v in rng.integers(2, size=2))
        return cls(axis=int(rng.integers(x.rank)), keepdims=keepdims, select_last_index=last), ()


@op("argmax", onnx="ArgMax")
class ArgMax(ArgExtreme):
    """The position of the largest element along an axis."""

    best = staticmethod(np.argmax)


@op("argmin", onnx="ArgMin")
class ArgMin(ArgExtreme):
    """The position of the smallest element along an axis."""

    best = staticmethod(np.argmin)


@op("topk", onnx="TopK")
class TopK(Op):
    """The k largest (or smallest) elements along `axis` and their positions, best first; of equals, the first first.

    With sorted=False the order is left open; evaluate sorts all the same.
    """

    k: int
    axis: int = -1
    largest: bool = True
    sorted: bool = True

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        expect(x.dtype.is_real, f"does not take elements of type {x.dtype}")
        expect(0 <= self.axis < x.rank, f"axis {self.axis} is out of range for rank {x.rank}")
        length = x.shape[self.axis]
        fits = self.k >= 0 and (isinstance(length, str) or self.k <= length)
        expect(fits, f"axis {self.axis} of {x} does not have {self.k} elements")
        shape = (*x.shape[: self.axis], self.k, *x.shape[self.axis + 1 :])
        return x.with_shape(shape), TensorType(I64, shape)

    def evaluate(self, x: Array) -> tuple[Array, Array]:
        wide = widen(x)
        if self.largest:  # a stable sort of the reversed axis, read backwards, keeps the first of equals first
            order = np.argsort(np.flip(wide, self.axis), self.axis, kind="stable")
            rank = x.shape[self.axis] - 1 - np.flip(order, self.axis)
        else:
            rank = np.argsort(wide, self.axis, kind="stable")
        best = rank.take(range(self.k), self.axis).astype(np.int64, copy=False)
        return np.take_along_axis(x, best, self.axis), best

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> TopK:
        return cls(
            k=int(node.scalar("k", 1)),
            axis=normalize_axis(node.attr("axis", -1), node.type(0).rank),
            largest=bool(node.attr("largest", 1)),
            sorted=bool(node.attr("sorted", 1)),
        )

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        largest, ordered = int(self.largest), int(self.sorted)
        k = e.const(np.array([self.k], np.int64))
        return e.node("TopK", *inputs, k, outputs=2, axis=self.axis, largest=largest, sorted=ordered)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0 or not x.is_static or 0 in x.shape or not x.dtype.is_real:
            return None
        axis = int(rng.integers(x.rank))
        return cls(k=int(rng.integers(1, x.dims[axis] + 1)), axis=axis, largest=bool(rng.random() < 0.5)), ()


@op("nonzero", onnx="NonZero", since=9)
class NonZero(Op):
    """The positions of elements other than 0, one column each, in row-major order; `dim` names their number."""

    dim: str

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(I64, (x.rank, self.dim))

    def evaluate(self, x: Array) -> Array:
        return np.stack(np.nonzero(x)) if x.ndim else np.zeros((0, int(bool(x))), np.int64)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> NonZero:
        return cls(dim=f"nonzero({node.name})")

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("NonZero", *inputs)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return (cls(dim="found"), ()) if x.rank and x.dtype.kind in "fiub" else None


@op("compress", onnx="Compress", since=9)
class Compress(Op):
    """The slices along `axis` (elements of the flattened x if it is None) for which the condition holds; a condition
    that is too short does not hold beyond its end. `dim` names their number."""

    axis: int | None = None
    dim: str

    def infer(self, x: TensorType, condition: TensorType) -> TensorType:
        expect(condition.dtype is BOOL and condition.rank == 1, f"condition must be a vector of bool, got {condition}")
        if self.axis is None:
            return x.with_shape((self.dim,))
        expect(0 <= self.axis < x.rank, f"axis {self.axis} is out of range for rank {x.rank}")
        return x.with_shape((*x.shape[: self.axis], self.dim, *x.shape[self.axis + 1 :]))

    def evaluate(self, x: Array, condition: Array) -> Array:
        return np.compress(condition, x, self.axis)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Compress:
        axis = node.attr("axis", None)
        axis = None if axis is None else normalize_axis(axis, node.type(0).rank)
        return cls(axis=axis, dim=f"compress({node.name})")

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("Compress", *inputs, axis=self.axis)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0 or not x.is_static:
            return None
        axis = None if rng.random() < 0.3 else int(rng.integers(x.rank))
        length = x.size if axis is None else x.dims[axis]
        return cls(axis=axis, dim="kept"), (rng.random(int(rng.integers(length + 1))) < 0.5,)


@op("unique", onnx="Unique", since=11)
class Unique(Op):
    """The distinct elements (slices along `axis` if it is given), where each stands first, which one every element
    is, and how many there are of each; ascending, or in order of first appearance if not `sorted`. `dim` names their
    number."""

    axis: int | None = None
    sorted: bool = True
    dim: str

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType, TensorType, TensorType]:
        axis, found = self.axis, TensorType(I64, (self.dim,))
        expect(axis is None or 0 <= axis < x.rank, f"axis {axis} is out of range for rank {x.rank}")
        if axis is None:
            shape: tuple[Dim, ...] = (self.dim,)
            length: Dim = x.size if x.is_static else "*".join(map(str, x.shape))
        else:
            shape = (*x.shape[:axis], self.dim, *x.shape[axis + 1 :])
            length = x.shape[axis]
        return x.with_shape(shape), found, TensorType(I64, (length,)), found

    def evaluate(self, x: Array) -> tuple[Array, Array, Array, Array]:
        axis = self.axis
        values, first, which, counts = np.unique(
            x.reshape(-1) if axis is None else x, return_index=True, return_inverse=True, return_counts=True, axis=axis
        )
        which = which.reshape(-1)
        if not self.sorted:
            order = np.argsort(first)
            values = values.take(order, 0 if axis is None else axis)
            first, counts = first[order], counts[order]
            place = np.empty_like(order)
            place[order] = np.arange(len(order))
            which = place[which]
        return values, first.astype(np.int64), which.astype(np.int64), counts.astype(np.int64)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Unique:
        axis = node.attr("axis", None)
        axis = None if axis is None else normalize_axis(axis, node.type(0).rank)
        return cls(axis=axis, sorted=bool(node.attr("sorted", 1)), dim=f"unique({node.name})")

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("Unique", *inputs, outputs=4, axis=self.axis, sorted=int(self.sorted))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0 or not x.is_static or 0 in x.shape or x.dtype.name not in ("f32", "i64"):
            return None
        axis = None if rng.random() < 0.5 else int(rng.integers(x.rank))
        return cls(axis=axis, sorted=bool(rng.random() < 0.5), dim="distinct"), ()

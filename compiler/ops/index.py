"""Reading and writing elements at computed positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compiler.errors import ShapeError
from compiler.op import Emitter, OnnxNode, Op, expect, expect_opset, normalize_axis, op
from compiler.ops.elementwise import Sample
from compiler.tensor import Array, TensorType

REDUCTIONS: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _expect_indices(indices: TensorType) -> None:
    expect(indices.dtype.kind == "i", f"indices must be integers, got {indices}")


def _expect_axis(axis: int, x: TensorType) -> None:
    expect(0 <= axis < x.rank, f"axis {axis} is out of range for rank {x.rank}")


def _check_reduction(reduction: str) -> None:
    expect(reduction == "none" or reduction in REDUCTIONS, f"reduction {reduction!r} is not known")


def _random_indices(rng: np.random.Generator, length: int, shape: Sequence[int]) -> Array:
    return rng.integers(-length, length, tuple(shape), dtype=np.int64)


@op("gather", onnx="Gather")
class Gather(Op):
    """The slices of x at `indices` along `axis`; negative ones count from the end."""

    axis: int = 0

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        _expect_axis(self.axis, x)
        _expect_indices(indices)
        return x.with_shape((*x.shape[: self.axis], *indices.shape, *x.shape[self.axis + 1 :]))

    def evaluate(self, x: Array, indices: Array) -> Array:
        try:
            return np.asarray(np.take(x, indices, self.axis))
        except IndexError as e:
            raise ShapeError(f"an index is out of range for axis {self.axis} of length {x.shape[self.axis]}") from e

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Gather:
        return cls(axis=normalize_axis(node.attr("axis", 0), node.type(0).rank))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        axes = [i for i, d in enumerate(x.shape) if isinstance(d, int) and d]
        if not axes:
            return None
        axis = int(rng.choice(axes))
        length = x.shape[axis]
        assert isinstance(length, int)
        shape = tuple(int(v) for v in rng.integers(1, 4, int(rng.integers(3))))
        return cls(axis=axis), (_random_indices(rng, length, shape),)


@op("gather_elements", onnx="GatherElements", since=11)
class GatherElements(Op):
    """out[i, j, ...] = x[i, indices[i, j, ...], ...], the index standing on `axis`."""

    axis: int = 0

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        _expect_axis(self.axis, x)
        _expect_indices(indices)
        expect(x.rank == indices.rank, f"{x} and indices {indices} differ in rank")
        _expect_within(x, indices, self.axis)
        return x.with_shape(indices.shape)

    def evaluate(self, x: Array, indices: Array) -> Array:
        return x[_along(indices, self.axis)]

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> GatherElements:
        return cls(axis=normalize_axis(node.attr("axis", 0), node.type(0).rank))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0 or not x.is_static or x.size == 0:
            return None
        axis = int(rng.integers(x.rank))
        shape = [int(rng.integers(1, d + 1)) for d in x.dims]
        return cls(axis=axis), (_random_indices(rng, x.dims[axis], shape),)


def _expect_within(x: TensorType, indices: TensorType, axis: int) -> None:
    for i, (d, n) in enumerate(zip(x.shape, indices.shape, strict=True)):
        fits = i == axis or d == n or (isinstance(d, int) and isinstance(n, int) and n <= d)
        expect(fits, f"indices {indices} reach beyond {x} on axis {i}")


def _along(indices: Array, axis: int) -> tuple[Array, ...]:
    where = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    where[axis] = indices
    return tuple(where)


@op("gather_nd", onnx="GatherND", since=11)
class GatherND(Op):
    """The slices of x at the positions that the last axis of `indices` holds, after `batch_dims` shared axes."""

    batch_dims: int = 0

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        _expect_indices(indices)
        b = self.batch_dims
        expect(0 <= b < min(x.rank, indices.rank), f"batch_dims {b} is out of range for {x} and {indices}")
        expect(x.shape[:b] == indices.shape[:b], f"{x} and indices {indices} differ in their {b} batch axes")
        depth = indices.shape[-1]
        if not isinstance(depth, int) or not 0 < depth <= x.rank - b:
            raise ShapeError(f"positions of {depth} numbers do not fit {x} after {b} batch axes")
        return x.with_shape((*indices.shape[:-1], *x.shape[b + depth :]))

    def evaluate(self, x: Array, indices: Array) -> Array:
        b = self.batch_dims
        shared = np.ogrid[tuple(slice(n) for n in indices.shape[:b])] if b else ()
        inner = indices.ndim - 1 - b
        batch = tuple(i.reshape(i.shape + (1,) * inner) for i in shared)
        return np.asarray(x[(*batch, *np.moveaxis(indices, -1, 0))])

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0 or not x.is_static or x.size == 0:
            return None
        b = int(rng.integers(x.rank))
        depth = int(rng.integers(1, x.rank - b + 1))
        rows = (*x.dims[:b], *(int(v) for v in rng.integers(1, 4, int(rng.integers(2)))))
        columns = [_random_indices(rng, d, rows) for d in x.dims[b : b + depth]]
        return cls(batch_dims=b), (np.stack(columns, -1),)


@op("scatter_elements", onnx="ScatterElements", since=11)
class ScatterElements(Op):
    """x with the updates put in (or combined by `reduction`) where GatherElements would read them."""

    axis: int = 0
    reduction: str = "none"

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        _expect_axis(self.axis, x)
        _expect_indices(indices)
        _check_reduction(self.reduction)
        expect(updates.dtype is x.dtype, f"updates {updates} differ from {x} in element type")
        expect(x.rank == indices.rank, f"{x} and indices {indices} differ in rank")
        expect(indices.shape == updates.shape, f"indices {indices} and updates {updates} differ in shape")
        return x

    def evaluate(self, x: Array, indices: Array, updates: Array) -> Array:
        return _scatter(x, _along(_from_front(indices, x.shape[self.axis]), self.axis), updates, self.reduction)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> ScatterElements:
        axis = normalize_axis(node.attr("axis", 0), node.type(0).rank)
        return cls(axis=axis, reduction=node.attr("reduction", "none"))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        _expect_reduction(e, self.reduction)
        reduction = None if self.reduction == "none" else self.reduction
        return e.node("ScatterElements", *inputs, axis=self.axis, reduction=reduction)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0 or not x.is_static or x.size == 0 or x.dtype.kind not in "fi":
            return None
        axis = int(rng.integers(x.rank))
        reduction = str(rng.choice(["none", "add", "mul", "max", "min"]))
        shape = [int(rng.integers(1, d + 1)) for d in x.dims]
        indices = _random_indices(rng, x.dims[axis], shape)
        if reduction == "none":  # the same place twice would leave the winner open
            order = rng.permutation(x.dims[axis])[: shape[axis]]
            indices = np.broadcast_to(order.reshape([-1 if i == axis else 1 for i in range(x.rank)]), shape)
        return cls(axis=axis, reduction=reduction), (np.array(indices, np.int64), x.with_shape(tuple(shape)))


def _from_front(indices: Array, length: int) -> Array:
    return np.where(indices < 0, indices + length, indices)


def _scatter(x: Array, where: tuple[Array, ...], updates: Array, reduction: str) -> Array:
    out = x.copy()
    if reduction == "none":
        out[where] = updates
    else:
        REDUCTIONS[reduction].at(out, where, updates)
    return out


def _expect_reduction(e: Emitter, reduction: str) -> None:
    since = 18 if reduction in ("max", "min") else 16 if reduction != "none" else 0
    expect_opset(e, since, f"a scatter with reduction {reduction}")


@op("scatter_nd", onnx="ScatterND", since=11)
class ScatterND(Op):
    """x with the updates put in (or combined by `reduction`) where GatherND would read them."""

    reduction: str = "none"

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        _expect_indices(indices)
        _check_reduction(self.reduction)
        expect(updates.dtype is x.dtype, f"updates {updates} differ from {x} in element type")
        depth = indices.shape[-1] if indices.rank else None
        if not isinstance(depth, int) or not 0 < depth <= x.rank:
            raise ShapeError(f"indices {indices} do not hold positions in {x}")
        wanted = (*indices.shape[:-1], *x.shape[depth:])
        expect(updates.shape == wanted, f"updates {updates} must have shape {list(wanted)}")
        return x

    def evaluate(self, x: Array, indices: Array, updates: Array) -> Array:
        columns = np.moveaxis(indices, -1, 0)
        where = tuple(_from_front(column, d) for column, d in zip(columns, x.shape, strict=False))
        return _scatter(x, where, updates, self.reduction)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        _expect_reduction(e, self.reduction)
        return e.node("ScatterND", *inputs, reduction=None if self.reduction == "none" else self.reduction)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0 or not x.is_static or x.size == 0 or x.dtype.kind not in "fi":
            return None
        depth = int(rng.integers(1, x.rank + 1))
        places = np.array(np.unravel_index(rng.permutation(int(np.prod(x.dims[:depth]))), x.dims[:depth]), np.int64)
        indices = np.ascontiguousarray(places.T[: int(rng.integers(1, places.shape[1] + 1))])
        reduction = str(rng.choice(["none", "add", "mul", "max", "min"]))
        return cls(reduction=reduction), (indices, x.with_shape((len(indices), *x.dims[depth:])))


@op("tensor_scatter", onnx="TensorScatter", since=24)
class TensorScatter(Op):
    """x with the updates written along `axis` from position write_indices[batch] on (0 if absent), cyclically in mode
    "circular": the update of a key-value cache."""

    axis: int = -2
    mode: str = "linear"

    def infer(self, x: TensorType, updates: TensorType, write_indices: TensorType | None = None) -> TensorType:
        expect(0 < self.axis < x.rank, f"axis {self.axis} is not an axis of {x} after the first")
        expect(updates.dtype is x.dtype, f"updates {updates} differ from {x} in element type")
        expect(updates.rank == x.rank, f"updates {updates} and {x} differ in rank")
        _expect_within(updates, x.with_shape((*x.shape[: self.axis], 0, *x.shape[self.axis + 1 :])), self.axis)
        fits = write_indices is None or write_indices.shape == x.shape[:1]
        expect(fits, f"write_indices {write_indices} must be one per batch of {x}")
        return x

    def evaluate(self, x: Array, updates: Array, write_indices: Array | None = None) -> Array:
        length = x.shape[self.axis]
        starts = np.zeros(x.shape[0], np.int64) if write_indices is None else write_indices
        positions = starts[:, None] + np.arange(updates.shape[self.axis])
        out = x.copy()
        if self.mode == "circular":
            positions = positions % length
        np.moveaxis(out, self.axis, 1)[np.arange(len(x))[:, None], positions] = np.moveaxis(updates, self.axis, 1)
        return out

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> TensorScatter:
        return cls(axis=normalize_axis(node.attr("axis", -2), node.type(0).rank), mode=node.attr("mode", "linear"))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank < 2 or not x.is_static or x.size == 0:
            return None
        axis = int(rng.integers(1, x.rank))
        count = int(rng.integers(1, x.dims[axis] + 1))
        circular = bool(rng.random() < 0.5)
        starts = rng.integers(0, x.dims[axis] if circular else x.dims[axis] - count + 1, x.dims[0])
        updates = x.with_shape((*x.dims[:axis], count, *x.dims[axis + 1 :]))
        return cls(axis=axis, mode="circular" if circular else "linear"), (updates, starts.astype(np.int64))


@op("reverse_sequence", onnx="ReverseSequence", since=10)
class ReverseSequence(Op):
    """The first lengths[i] elements along `time_axis` of batch i reversed, the others as they are."""

    batch_axis: int = 1
    time_axis: int = 0

    def infer(self, x: TensorType, lengths: TensorType) -> TensorType:
        axes = (self.batch_axis, self.time_axis)
        expect(sorted(axes) == [0, 1] and x.rank >= 2, f"batch and time axes {axes} are not the first two of {x}")
        _expect_indices(lengths)
        expect(lengths.shape == (x.shape[self.batch_axis],), f"lengths {lengths} are not one per batch of {x}")
        return x

    def evaluate(self, x: Array, lengths: Array) -> Array:
        time = np.arange(x.shape[self.time_axis])
        ends = lengths[:, None]
        source = np.where(time < ends, ends - 1 - time, time)  # [batch, time]
        if self.time_axis == 0:
            return x[source.T, np.arange(len(lengths))]
        return x[np.arange(len(lengths))[:, None], source]

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank < 2 or not x.is_static or 0 in x.shape:
            return None
        batch = int(rng.integers(2))
        lengths = rng.integers(1, x.dims[1 - batch] + 1, x.dims[batch], dtype=np.int64)
        return cls(batch_axis=batch, time_axis=1 - batch), (lengths,)

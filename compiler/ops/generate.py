"""Operations that make their elements out of little: constants, ranges, masks, one-hot codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, expect, expect_opset, normalize_axis, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import widen
from compiler.ops.shape import i64_vector
from compiler.tensor import DTYPES, Array, Dim, TensorType, dtype_of


@op("constant_of_shape", onnx="ConstantOfShape", since=9)
class ConstantOfShape(Op):
    """A tensor of one value everywhere."""

    shape: tuple[int, ...]
    value: float | int | bool = 0.0
    dtype: str = "f32"

    def infer(self) -> TensorType:
        for d in self.shape:
            expect(isinstance(d, int) and d >= 0, f"dimension {d!r} is no size")
        return TensorType(DTYPES[self.dtype], self.shape)

    def evaluate(self) -> Array:
        return np.broadcast_to(np.array(self.value, DTYPES[self.dtype].numpy), self.shape)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> ConstantOfShape:
        value = node.attr("value", np.zeros(1, np.float32))
        dtype = dtype_of(value)
        number = value.astype(np.float64) if dtype.is_float else value
        python = number.reshape(-1)[0].item()
        return cls(shape=node.ints("shape", 0), value=python if dtype.kind in "fb" else int(python), dtype=dtype.name)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        value = np.array([self.value], DTYPES[self.dtype].numpy)
        return e.node("ConstantOfShape", e.const(i64_vector(self.shape)), value=value)


@op("range", onnx="Range", since=11)
class Range(Op):
    """start, start + delta, ... before limit; `dim` is the number of elements, or its name if that is unknown."""

    dim: Dim

    def infer(self, start: TensorType, limit: TensorType, delta: TensorType) -> TensorType:
        for x in (start, limit, delta):
            expect(x.size == 1 and x.is_static and x.rank <= 1, f"needs scalars, got {x}")
            expect(x.dtype is start.dtype and x.dtype.is_real, f"operands differ: {start}, {limit}, {delta}")
        return TensorType(start.dtype, (self.dim,))

    def evaluate(self, start: Array, limit: Array, delta: Array) -> Array:
        steps = np.arange(self.count(start, limit, delta))
        return (steps * widen(delta).reshape(()) + widen(start).reshape(())).astype(start.dtype)

    @staticmethod
    def count(start: Array, limit: Array, delta: Array) -> int:
        """The number of elements."""
        exact = object if start.dtype.kind in "iu" else np.float64
        first, last, step = (v.astype(exact).reshape(-1)[0] for v in (start, limit, delta))
        expect(step, "delta is 0")
        return max(0, int(-((first - last) // step)))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("Range", *inputs)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank or x.dtype.name not in ("f32", "i32", "i64"):
            return None
        limit, delta = int(rng.integers(-4, 12)), int(rng.choice([-2, -1, 1, 3]))
        return cls(dim="count"), (np.array(limit, x.dtype.numpy), np.array(delta, x.dtype.numpy))


@op("trilu", onnx="Trilu", since=14)
class Trilu(Op):
    """The upper (or lower) triangle of each matrix of the last two axes, up to diagonal k; 0 elsewhere."""

    upper: bool = True
    k: int = 0

    def infer(self, x: TensorType) -> TensorType:
        expect(x.rank >= 2, f"needs matrices, got {x}")
        return x

    def evaluate(self, x: Array) -> Array:
        rows, columns = x.shape[-2:]
        distance = np.arange(columns) - np.arange(rows)[:, None]
        kept = distance >= self.k if self.upper else distance <= self.k
        return np.where(kept, x, np.zeros((), x.dtype))

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Trilu:
        return cls(upper=bool(node.attr("upper", 1)), k=node.scalar("k", 1, 0))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        expect_opset(e, self.since, "Trilu")
        k = [e.const(np.array(self.k, np.int64))] if self.k else []
        return e.node("Trilu", *inputs, *k, upper=int(self.upper))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank < 2 or x.dtype.kind not in "fiu":
            return None
        return cls(upper=bool(rng.random() < 0.5), k=int(rng.integers(-3, 4))), ()


@op("one_hot", onnx="OneHot", since=11)
class OneHot(Op):
    """A new axis of `depth` elements: values[1] at the index (negative: from the end), values[0] elsewhere."""

    depth: int
    axis: int = -1

    def infer(self, indices: TensorType, values: TensorType) -> TensorType:
        expect(indices.dtype.is_real, f"indices must be numbers, got {indices}")
        expect(values.shape == (2,), f"values must be two, got {values}")
        expect(self.depth >= 0, f"depth {self.depth} is negative")
        expect(0 <= self.axis <= indices.rank, f"axis {self.axis} is out of range for rank {indices.rank + 1}")
        return values.with_shape((*indices.shape[: self.axis], self.depth, *indices.shape[self.axis :]))

    def evaluate(self, indices: Array, values: Array) -> Array:
        whole = np.expand_dims(indices.astype(np.int64), self.axis)
        places = np.arange(self.depth).reshape([-1 if i == self.axis else 1 for i in range(whole.ndim)])
        hot = places == np.where(whole < 0, whole + self.depth, whole)
        return np.where(hot, values[1], values[0]).astype(values.dtype, copy=False)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> OneHot:
        axis = normalize_axis(node.attr("axis", -1), node.type(0).rank + 1)
        return cls(depth=int(node.scalar("depth", 1)), axis=axis)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        indices, values = inputs
        return e.node("OneHot", indices, e.const(np.array(self.depth, np.int64)), values, axis=self.axis)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.dtype.name not in ("i64", "i32", "f32"):
            return None
        values = TensorType(DTYPES["f32"], (2,))
        return cls(depth=int(rng.integers(1, 5)), axis=int(rng.integers(x.rank + 1))), (values,)

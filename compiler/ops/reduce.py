"""Reductions along axes, and running sums and products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, expect, expect_opset, normalize_axis, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import integer_range, kind_of, widen
from compiler.ops.shape import i64_vector
from compiler.tensor import Array, TensorType, dtype_of

Reducer = Callable[[Array, tuple[int, ...], bool], Any]


class Reduce(Op):
    """A function of all elements along `axes`, which are sorted and at least one; they stay as 1 with `keepdims`.

    Floats of 16 bits are accumulated in 32. Over no elements the result is the neutral element.
    """

    kinds: ClassVar[str] = "fiu"
    operand_since: ClassVar[int] = 18  # opset from which the axes are an operand
    function: ClassVar[Callable[..., Any]]
    axes: tuple[int, ...]
    keepdims: bool = True

    def infer(self, x: TensorType) -> TensorType:
        expect(x.dtype.kind in self.kinds, f"does not take elements of type {x.dtype}")
        axes = self.axes
        ordered = axes and list(axes) == sorted(set(axes)) and axes[0] >= 0 and axes[-1] < x.rank
        expect(ordered, f"axes {list(axes)} are not one or more axes of {x}, in order")
        if self.keepdims:
            return x.with_shape(tuple(1 if i in axes else d for i, d in enumerate(x.shape)))
        return x.with_shape(tuple(d for i, d in enumerate(x.shape) if i not in axes))

    def evaluate(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.function(widen(x), self.axes, self.keepdims)).astype(x.dtype, copy=False)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Reduce:
        rank = node.type(0).rank
        axes = node.ints("axes", 1, ()) or range(rank)
        return cls(axes=tuple(sorted({normalize_axis(a, rank) for a in axes})), keepdims=bool(node.attr("keepdims", 1)))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        keepdims = int(self.keepdims)
        if e.opset < self.operand_since:
            return e.node(self.onnx, *inputs, axes=self.axes, keepdims=keepdims)
        return e.node(self.onnx, *inputs, e.const(i64_vector(self.axes)), keepdims=keepdims)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0 or 0 in x.shape or x.dtype.kind not in cls.kinds:
            return None
        axes = tuple(i for i in range(x.rank) if rng.random() < 0.5) or (int(rng.integers(x.rank)),)
        return cls(axes=axes, keepdims=bool(rng.random() < 0.5)), ()


def _sum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.sum(x, axes, keepdims=keepdims, dtype=x.dtype)


def _mean(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    if x.dtype.kind == "f":
        count = np.prod([x.shape[a] for a in axes])
        return np.sum(x, axes, keepdims=keepdims) / x.dtype.type(count)
    return np.trunc(np.sum(x, axes, keepdims=keepdims, dtype=np.float64) / np.prod([x.shape[a] for a in axes]))


def _extreme(largest: bool) -> Reducer:
    function = np.max if largest else np.min

    def extreme(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
        if kind_of(x) == "f":
            neutral: Any = -np.inf if largest else np.inf
        elif x.dtype.kind == "b":
            neutral = not largest
        else:
            neutral = integer_range(dtype_of(x))[0 if largest else 1]
        return function(x, axes, keepdims=keepdims, initial=neutral)

    return extreme


def _prod(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.prod(x, axes, keepdims=keepdims, dtype=x.dtype)


def _l1(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    return _sum(np.abs(x), axes, keepdims)


def _l2(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.sqrt(_sum_square(x, axes, keepdims))


def _sum_square(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    return _sum(x * x, axes, keepdims)


def _log_sum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.log(_sum(x, axes, keepdims))


def _log_sum_exp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    top = np.max(x, axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, x.dtype.type(0))
    out = np.log(np.sum(np.exp(x - top), axes, keepdims=True)) + top
    return out if keepdims else out.squeeze(axes)


def _reduce(name: str, onnx: str, function: Reducer, doc: str, kinds: str = "fiu", since: int = 18) -> type[Reduce]:
    body = {"function": staticmethod(function), "kinds": kinds, "operand_since": since, "__doc__": doc}
    return op(name, onnx=onnx)(type(onnx, (Reduce,), body))


ReduceSum = _reduce("reduce_sum", "ReduceSum", _sum, "The sum along axes.", since=13)
ReduceMean = _reduce("reduce_mean", "ReduceMean", _mean, "The mean along axes; of integers, towards zero.")
ReduceMax = _reduce("reduce_max", "ReduceMax", _extreme(largest=True), "The largest along axes.", "fiub")
ReduceMin = _reduce("reduce_min", "ReduceMin", _extreme(largest=False), "The smallest along axes.", "fiub")
ReduceProd = _reduce("reduce_prod", "ReduceProd", _prod, "The product along axes.")
ReduceL1 = _reduce("reduce_l1", "ReduceL1", _l1, "The sum of magnitudes along axes.")
ReduceL2 = _reduce("reduce_l2", "ReduceL2", _l2, "The square root of the sum of squares along axes.")
ReduceSumSquare = _reduce("reduce_sum_square", "ReduceSumSquare", _sum_square, "The sum of squares along axes.")
ReduceLogSum = _reduce("reduce_log_sum", "ReduceLogSum", _log_sum, "The logarithm of the sum along axes.", "f")
ReduceLogSumExp = _reduce("reduce_log_sum_exp", "ReduceLogSumExp", _log_sum_exp, "log(sum(exp(x))), stably.", "f")


class Running(Op):
    """Base of the running sum and product along `axis`.

    exclusive   element i takes those before it only
    reverse     from the end
    """

    axis: int
    exclusive: bool = False
    reverse: bool = False
    start: ClassVar[int]
    function: ClassVar[Callable[..., Any]]

    def infer(self, x: TensorType) -> TensorType:
        expect(x.dtype.is_real, f"does not take elements of type {x.dtype}")
        expect(0 <= self.axis < x.rank, f"axis {self.axis} is out of range for rank {x.rank}")
        return x

    def evaluate(self, x: Array) -> Array:
        wide = np.flip(x, self.axis) if self.reverse else x
        wide = widen(wide)
        with np.errstate(all="ignore"):
            if self.exclusive and wide.shape[self.axis]:
                head = np.full_like(wide.take([0], self.axis), self.start)
                wide = np.concatenate([head, wide.take(range(wide.shape[self.axis] - 1), self.axis)], self.axis)
            out = self.function(wide, self.axis, dtype=wide.dtype).astype(x.dtype, copy=False)
        return np.flip(out, self.axis) if self.reverse else out

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Running:
        axis = normalize_axis(node.scalar("axis", 1), node.type(0).rank)
        return cls(axis=axis, exclusive=bool(node.attr("exclusive", 0)), reverse=bool(node.attr("reverse", 0)))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        expect_opset(e, self.since, self.onnx)
        axis = e.const(np.array(self.axis, np.int64))
        return e.node(self.onnx, *inputs, axis, exclusive=int(self.exclusive), reverse=int(self.reverse))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0 or not x.dtype.is_real:
            return None
        exclusive, reverse = (bool(v) for v in rng.integers(2, size=2))
        return cls(axis=int(rng.integers(x.rank)), exclusive=exclusive, reverse=reverse), ()


@op("cumsum", onnx="CumSum", since=11)
class CumSum(Running):
    """The running sum along an axis."""

    start = 0
    function = staticmethod(np.cumsum)


@op("cumprod", onnx="CumProd", since=26)
class CumProd(Running):
    """The running product along an axis."""

    start = 1
    function = staticmethod(np.cumprod)


@op("det", onnx="Det", since=11)
class Det(Op):
    """The determinant of each square matrix of the last two axes."""

    def infer(self, x: TensorType) -> TensorType:
        expect(x.dtype.is_float, f"does not take elements of type {x.dtype}")
        expect(x.rank >= 2 and x.shape[-1] == x.shape[-2], f"needs square matrices, got {x}")
        return x.with_shape(x.shape[:-2])

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.linalg.det(widen(x))).astype(x.dtype, copy=False)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return (cls(), ()) if x.dtype.is_float and x.rank >= 2 and x.shape[-1] == x.shape[-2] else None

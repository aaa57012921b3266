"""Normalisations with statistics over channels, groups of channels or trailing axes, then a scale and a bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, expect, normalize_axis, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import widen
from compiler.tensor import F32, Array, TensorType


def standardized(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps) with statistics over `axes`."""
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axes, keepdims=True) + x.dtype.type(eps))


def per_channel(v: Array, like: Array) -> Array:
    """A vector v [C] in the element type of `like` [N,C,*S], shaped to broadcast over it."""
    return v.astype(like.dtype, copy=False).reshape(-1, *[1] * (like.ndim - 2))


def expect_channels(x: TensorType, **operands: TensorType | None) -> None:
    """Raise ShapeError unless x is a float tensor [N,C,...] and each operand is a float vector [C]."""
    expect(x.rank >= 2 and x.dtype.is_float, f"needs a float tensor of rank 2 or more, got {x}")
    for name, t in operands.items():
        fits = t is not None and t.dtype.is_float and t.shape == x.shape[1:2]
        expect(fits, f"{name} should be one number per channel of {x}, it is {t}")


def sample_channels(x: TensorType, count: int) -> tuple[TensorType, ...] | None:
    """`count` vectors [C] for an image-like x, or None."""
    fits = 3 <= x.rank <= 5 and x.dtype.is_float and x.is_static and all(x.shape)
    return (x.with_shape(x.shape[1:2]),) * count if fits else None


@op("batch_norm", onnx="BatchNormalization", since=9)
class BatchNorm(Op):
    """(x - mean) / sqrt(var + eps) * scale + bias, with one of each per channel of x [N,C,*S]."""

    eps: float = 1e-5

    def infer(
        self, x: TensorType, scale: TensorType, bias: TensorType, mean: TensorType, var: TensorType
    ) -> TensorType:
        expect_channels(x, scale=scale, bias=bias, mean=mean, var=var)
        return x

    def evaluate(self, x: Array, scale: Array, bias: Array, mean: Array, var: Array) -> Array:
        wide = widen(x)
        scale, bias, mean, var = (per_channel(v, wide) for v in (scale, bias, mean, var))
        with np.errstate(all="ignore"):
            y = (wide - mean) * (scale / np.sqrt(var + wide.dtype.type(self.eps))) + bias
        return np.asarray(y).astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return outputs[0].size

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        return cls(eps=node.attr("epsilon", 1e-5))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("BatchNormalization", *inputs, epsilon=self.eps)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        vectors = sample_channels(x, 3)
        if vectors is None:
            return None
        var = rng.uniform(0.5, 2.0, x.dims[1]).astype(x.dtype.numpy)
        return cls(eps=float(rng.choice([1e-5, 1e-3]))), (*vectors, var)


@op("instance_norm", onnx="InstanceNormalization", since=6)
class InstanceNorm(Op):
    """x [N,C,*S] standardised over its spatial axes, times scale [C], plus bias [C]."""

    eps: float = 1e-5

    def infer(self, x: TensorType, scale: TensorType, bias: TensorType) -> TensorType:
        expect_channels(x, scale=scale, bias=bias)
        return x

    def evaluate(self, x: Array, scale: Array, bias: Array) -> Array:
        wide = widen(x)
        y = standardized(wide, tuple(range(2, x.ndim)), self.eps) * per_channel(scale, wide) + per_channel(bias, wide)
        return np.asarray(y).astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return 3 * outputs[0].size

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        return cls(eps=node.attr("epsilon", 1e-5))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("InstanceNormalization", *inputs, epsilon=self.eps)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        vectors = sample_channels(x, 2)
        return None if vectors is None else (cls(eps=float(rng.choice([1e-5, 1e-3]))), vectors)


@op("group_norm", onnx="GroupNormalization", since=21)
class GroupNorm(Op):
    """x [N,C,*S] standardised over each of `groups` groups of channels, times scale [C], plus bias [C]."""

    groups: int
    eps: float = 1e-5

    def infer(self, x: TensorType, scale: TensorType, bias: TensorType) -> TensorType:
        expect_channels(x, scale=scale, bias=bias)
        c = x.shape[1]
        fits = isinstance(c, int) and self.groups > 0 and c % self.groups == 0
        expect(fits, f"{c} channels do not split into {self.groups} groups")
        return x

    def evaluate(self, x: Array, scale: Array, bias: Array) -> Array:
        wide = widen(x)
        grouped = wide.reshape(x.shape[0], self.groups, x.shape[1] // self.groups, *x.shape[2:])
        y = standardized(grouped, tuple(range(2, grouped.ndim)), self.eps).reshape(x.shape)
        return np.asarray(y * per_channel(scale, wide) + per_channel(bias, wide)).astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return 3 * outputs[0].size

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        return cls(groups=node.attr("num_groups"), eps=node.attr("epsilon", 1e-5))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        if e.opset >= 21:
            return e.node("GroupNormalization", *inputs, num_groups=self.groups, epsilon=self.eps)
        x, scale, bias = e.types[:3]
        assert x is not None
        assert scale is not None
        assert bias is not None
        (grouped,) = e.node("Reshape", inputs[0], e.const(np.array([0, self.groups, -1], np.int64)))
        ones, zeros = (e.const(np.full(self.groups, v, x.dtype.numpy)) for v in (1, 0))
        (y,) = e.node("InstanceNormalization", grouped, ones, zeros, epsilon=self.eps)
        (y,) = e.node("Reshape", y, e.const(np.array([0, *x.dims[1:]], np.int64)))
        column = e.const(np.array([-1, *[1] * (x.rank - 2)], np.int64))
        (y,) = e.node("Mul", y, *e.node("Reshape", inputs[1], column))
        return e.node("Add", y, *e.node("Reshape", inputs[2], column))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        vectors = sample_channels(x, 2)
        if vectors is None:
            return None
        c = x.dims[1]
        return cls(groups=int(rng.choice([g for g in range(1, c + 1) if c % g == 0]))), vectors


class TrailingNorm(Op):
    """A normalisation of the axes of x from `axis` on, or of `count` axes from there if that is not 0, which ONNX has
    no layer for."""

    axis: int
    eps: float = 1e-5
    count: int = 0

    def axes(self, rank: int) -> tuple[int, ...]:
        """The axes that are normalised."""
        return tuple(range(self.axis, self.axis + self.count if self.count else rank))

    def aligned(self, v: Array, like: Array) -> Array:
        """A parameter that broadcasts to the normalised axes, in the element type of `like`, shaped to broadcast over
        it."""
        after = like.ndim - 1 - self.axes(like.ndim)[-1]
        return v.astype(like.dtype, copy=False).reshape(v.shape + (1,) * after)

    def expect_trailing(self, x: TensorType, **operands: TensorType | None) -> None:
        """Raise ShapeError unless each operand is missing or broadcasts to the normalised axes."""
        last = self.axis + max(self.count, 1) - 1
        expect(x.dtype.is_float and 0 <= self.axis <= last < x.rank, f"needs a float tensor with axis {last}, got {x}")
        trailing = x.shape[self.axis : last + 1 if self.count else None]
        for name, t in operands.items():
            fits = t is None or (
                t.dtype.is_float
                and t.rank <= len(trailing)
                and all(d in (1, w) for d, w in zip(reversed(t.shape), reversed(trailing), strict=False))
            )
            expect(fits, f"{name} {t} does not broadcast to the axes {list(trailing)} of {x}")

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return 3 * outputs[0].size

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        return cls(axis=normalize_axis(node.attr("axis", -1), node.type(0).rank), eps=node.attr("epsilon", 1e-5))

    @classmethod
    def sample_axis(cls, rng: np.random.Generator, x: TensorType) -> tuple[Self, TensorType] | None:
        """A random instance for `x`, and the type of its scale."""
        if not x.rank or not x.dtype.is_float or not x.is_static or not all(x.shape):
            return None
        axis = int(rng.integers(x.rank))
        return cls(axis=axis, eps=float(rng.choice([1e-5, 1e-3]))), x.with_shape(x.shape[axis:])


def emit_wide(e: Emitter, name: str | None, x: TensorType) -> tuple[str | None, TensorType]:
    """`name` cast to f32 if its elements are narrower, as sums of squares need, and the type it then has."""
    if x.dtype.bits >= 32:
        return name, x
    return e.node("Cast", name, to=F32)[0], x.with_dtype(F32)


def emit_mean(e: Emitter, name: str | None, axes: Sequence[int]) -> str:
    """ReduceMean over `axes`, which stay as ones."""
    if e.opset < 18:
        return e.node("ReduceMean", name, axes=tuple(axes), keepdims=1)[0]
    return e.node("ReduceMean", name, e.const(np.array(axes, np.int64)), keepdims=1)[0]


def emit_aligned(e: Emitter, norm: TrailingNorm, name: str, t: TensorType) -> str:
    """A parameter of a normalisation, shaped to broadcast over its operand."""
    x = e.types[0]
    after = 0 if x is None else x.rank - 1 - norm.axes(x.rank)[-1]
    return e.node("Reshape", name, e.const(np.array((*t.dims, *[1] * after), np.int64)))[0] if after else name


def emit_divided_by_rms(
    e: Emitter, name: str | None, wide: TensorType, axes: Sequence[int], eps: float, x: TensorType
) -> str:
    """The quotient name / sqrt(mean(name squared) + eps) over some axes, in the element type of `x`."""
    mean = emit_mean(e, e.node("Mul", name, name)[0], axes)
    (root,) = e.node("Sqrt", *e.node("Add", mean, e.const(eps, wide)))
    (y,) = e.node("Div", name, root)
    return y if wide.dtype is x.dtype else e.node("Cast", y, to=x.dtype)[0]


@op("layer_norm", onnx="LayerNormalization", since=17)
class LayerNorm(TrailingNorm):
    """x standardised over its axes from `axis` on, or `count` of them, times scale, plus bias; Ba et al.,
    arXiv:1607.06450."""

    def infer(self, x: TensorType, scale: TensorType, bias: TensorType | None = None) -> TensorType:
        self.expect_trailing(x, scale=scale, bias=bias)
        return x

    def evaluate(self, x: Array, scale: Array, bias: Array | None = None) -> Array:
        y = standardized(widen(x), self.axes(x.ndim), self.eps)
        y = y * self.aligned(scale, y)
        return np.asarray(y if bias is None else y + self.aligned(bias, y)).astype(x.dtype, copy=False)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        if e.opset >= 17 and not self.count:
            return e.node("LayerNormalization", *inputs, axis=self.axis, epsilon=self.eps)
        x, *parameters = inputs
        x_type = e.types[0]
        assert x_type is not None
        scale, *bias = [emit_aligned(e, self, v, t) for v, t in zip(parameters, e.types[1:], strict=True) if v and t]
        wide, wide_type = emit_wide(e, x, x_type)
        axes = self.axes(x_type.rank)
        (centred,) = e.node("Sub", wide, emit_mean(e, wide, axes))
        y = e.node("Mul", emit_divided_by_rms(e, centred, wide_type, axes, self.eps, x_type), scale)
        return e.node("Add", *y, bias[0]) if bias else y

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        found = cls.sample_axis(rng, x)
        return found and (found[0], (found[1],) * int(rng.integers(1, 3)))


@op("rms_norm", onnx="RMSNormalization", since=23)
class RmsNorm(TrailingNorm):
    """x / sqrt(mean(x squared) + eps) over its axes from `axis` on, or `count` of them, times scale; Zhang & Sennrich,
    arXiv:1910.07467."""

    def infer(self, x: TensorType, scale: TensorType) -> TensorType:
        self.expect_trailing(x, scale=scale)
        return x

    def evaluate(self, x: Array, scale: Array) -> Array:
        wide = widen(x)
        mean = np.square(wide).mean(self.axes(x.ndim), keepdims=True)
        y = wide / np.sqrt(mean + wide.dtype.type(self.eps)) * self.aligned(scale, wide)
        return np.asarray(y).astype(x.dtype, copy=False)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        if e.opset >= 23 and not self.count:
            return e.node("RMSNormalization", *inputs, axis=self.axis, epsilon=self.eps)
        (x, scale), (x_type, scale_type) = inputs, e.types
        assert x_type is not None and scale_type is not None and scale is not None
        wide, wide_type = emit_wide(e, x, x_type)
        y = emit_divided_by_rms(e, wide, wide_type, self.axes(x_type.rank), self.eps, x_type)
        return e.node("Mul", y, emit_aligned(e, self, scale, scale_type))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        found = cls.sample_axis(rng, x)
        return found and (found[0], (found[1],))


@op("local_response_norm", onnx="LRN")
class LocalResponseNorm(Op):
    """x / (bias + alpha / size * sum of squares of `size` neighbouring channels) ** beta; Krizhevsky et al. 2012."""

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def infer(self, x: TensorType) -> TensorType:
        expect(x.rank >= 3 and x.dtype.is_float, f"needs a float tensor of rank 3 or more, got {x}")
        expect(self.size > 0, f"size {self.size} should be positive")
        return x

    def evaluate(self, x: Array) -> Array:
        wide = widen(x)
        before = (self.size - 1) // 2
        channels = x.shape[1]
        squares: Array = np.zeros((x.shape[0], channels + self.size - 1, *x.shape[2:]), wide.dtype)
        squares[:, before : before + channels] = np.square(wide)
        total: Array = np.zeros_like(wide)
        for i in range(self.size):
            total += squares[:, i : i + channels]
        scale = wide.dtype.type(self.bias) + wide.dtype.type(self.alpha / self.size) * total
        return np.asarray(wide * scale ** wide.dtype.type(-self.beta)).astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return self.size * outputs[0].size

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 4 or not x.dtype.is_float or not x.is_static or not all(x.shape):
            return None
        size = int(rng.choice([1, 3, 5]))
        return cls(size=size, alpha=float(rng.choice([1e-4, 0.5])), bias=float(rng.choice([1.0, 2.0]))), ()


__all__ = ["BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "LocalResponseNorm", "RmsNorm"]

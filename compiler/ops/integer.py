"""Convolutions and matrix products of 8-bit integers, exact, with or without rescaling of the result."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar, Self

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, expect, op
from compiler.ops.conv import Convolution, times, window_attributes
from compiler.ops.conv import convolve as convolve_floats
from compiler.ops.elementwise import Sample
from compiler.ops.matmul import inner_macs, matmul_shape
from compiler.ops.numeric import integer_range
from compiler.ops.window import bound, read_kernel, read_window, sample_window, slide_all
from compiler.tensor import F32, I8, I32, U8, Array, TensorType, dtype_of


def expect_bytes(**operands: TensorType) -> None:
    """Raise ShapeError unless each operand has elements of type i8 or u8."""
    for name, t in operands.items():
        expect(t.dtype in (I8, U8), f"{name} should have elements of type i8 or u8, it is {t}")


def expect_zero_point(x: TensorType, zero_point: TensorType | None, name: str) -> None:
    """Raise ShapeError unless the zero point is missing or has x's element type."""
    expect(zero_point is None or zero_point.dtype is x.dtype, f"the zero point of {name} {x} is {zero_point}")


def centred(x: Array, zero_point: Array | None) -> Array:
    """The difference x - zero_point as f64, in which sums of products of bytes are exact."""
    wide = x.astype(np.float64)
    return wide if zero_point is None else wide - zero_point.astype(np.float64)


def along_filters(v: Array, w: Array) -> Array:
    """One number, or one per filter, shaped to broadcast over a weight [M,...]."""
    return v.reshape(-1, *[1] * (w.ndim - 1))


def as_i32(x: Array) -> Array:
    """Whole numbers as i32, which wraps around."""
    return x.astype(np.int64).astype(np.int32)


def requantized(total: Array, factor: Array, zero_point: Array) -> Array:
    """Saturated total * factor + zero_point, halves to even; the zero point gives the element type."""
    low, high = integer_range(dtype_of(zero_point))
    scaled = np.rint(total.astype(np.float32) * factor.astype(np.float32)).astype(np.float64)
    return np.clip(scaled + zero_point.astype(np.float64), low, high).astype(zero_point.dtype)


class IntegerConvolution(Convolution):
    """What convolutions of bytes share: padding counts as the zero point. `weight` is the index of that operand."""

    weight: ClassVar[int] = 1

    def shape_of(self, x: TensorType, w: TensorType, y: TensorType) -> TensorType:
        """Type of the result, with the element type of `y`."""
        expect_bytes(x=x, w=w)
        expect(x.rank >= 3 and w.rank == x.rank, f"needs an input and a weight of one rank >= 3, got {x} and {w}")
        wanted = times(w.shape[1], self.groups)
        expect(x.shape[1] == wanted, f"the input has {x.shape[1]} channels, the weight {w} wants {wanted}")
        kernel = bound(w.shape[2:])
        spatial = slide_all(x.shape[2:], kernel, self.strides, self.pads, self.dilations)
        return TensorType(y.dtype, (*x.shape[:1], w.shape[0], *spatial))

    def convolve(self, x: Array, w: Array) -> Array:
        """The convolution of centred operands."""
        return convolve_floats(x, w, self.strides, self.pads, self.dilations, self.groups)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node(self.onnx, *inputs, **window_attributes(self, e, self.weight))

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        w = inputs[self.weight]
        assert w is not None
        return outputs[0].size * prod(w.dims[1:])

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        kernel = read_kernel(node, node.type(cls.weight).shape)
        return cls(groups=node.attr("group", 1), **read_window(node, node.type(0).shape[2:], kernel))

    @classmethod
    def sample_weight(cls, rng: np.random.Generator, x: TensorType) -> tuple[Self, TensorType] | None:
        """A random ungrouped instance for `x`, and the type of its weight."""
        if x.rank != 4 or x.dtype is not U8 or not x.is_static or not all(x.shape):
            return None
        window = sample_window(rng, x.dims[2:])
        kernel = window.pop("kernel")
        conv = cls(strides=window["strides"], pads=window["pads"], dilations=window["dilations"])
        return conv, x.with_shape((int(rng.integers(1, 4)), x.dims[1], *kernel))


@op("conv_integer", onnx="ConvInteger", since=10)
class ConvInteger(IntegerConvolution):
    """Cross-correlation of x - x_zero_point with w - w_zero_point (one, or one per filter), as i32."""

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        x_zero_point: TensorType | None = None,
        w_zero_point: TensorType | None = None,
    ) -> TensorType:
        expect_zero_point(x, x_zero_point, "x")
        expect_zero_point(w, w_zero_point, "w")
        return self.shape_of(x, w, TensorType(I32, ()))

    def evaluate(
        self, x: Array, w: Array, x_zero_point: Array | None = None, w_zero_point: Array | None = None
    ) -> Array:
        zero = None if w_zero_point is None else along_filters(w_zero_point, w)
        first = None if x_zero_point is None else x_zero_point.reshape(())
        return as_i32(self.convolve(centred(x, first), centred(w, zero)))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        found = cls.sample_weight(rng, x)
        return found and (found[0], (found[1], np.array(rng.integers(256), np.uint8)))


@op("qlinear_conv", onnx="QLinearConv", since=10)
class QLinearConv(IntegerConvolution):
    """Conv of quantized x and w (scale and zero point per tensor, or per filter for w) plus b (i32), quantized to y."""

    weight = 3

    def infer(
        self,
        x: TensorType,
        x_scale: TensorType,
        x_zero_point: TensorType,
        w: TensorType,
        w_scale: TensorType,
        w_zero_point: TensorType,
        y_scale: TensorType,
        y_zero_point: TensorType,
        b: TensorType | None = None,
    ) -> TensorType:
        expect(all(t.dtype is F32 for t in (x_scale, w_scale, y_scale)), "needs scales of type f32")
        expect_zero_point(x, x_zero_point, "x")
        expect_zero_point(w, w_zero_point, "w")
        expect_bytes(y_zero_point=y_zero_point)
        expect(w_scale.size in (1, w.shape[0]), f"needs one scale, or one per filter, got {w_scale}")
        fits = b is None or (b.dtype is I32 and b.shape == w.shape[:1])
        expect(fits, f"needs a bias i32[{w.shape[0]}], got {b}")
        return self.shape_of(x, w, y_zero_point)

    def evaluate(
        self,
        x: Array,
        x_scale: Array,
        x_zero_point: Array,
        w: Array,
        w_scale: Array,
        w_zero_point: Array,
        y_scale: Array,
        y_zero_point: Array,
        b: Array | None = None,
    ) -> Array:
        total = self.convolve(centred(x, x_zero_point.reshape(())), centred(w, along_filters(w_zero_point, w)))
        over = [1] * (total.ndim - 2)
        total = total if b is None else total + b.reshape(-1, *over)
        factor = (x_scale.reshape(()) * w_scale / y_scale.reshape(())).reshape(-1, *over)
        return requantized(total, factor, y_zero_point.reshape(()))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        found = cls.sample_weight(rng, x)
        if found is None:
            return None
        m = found[1].dims[0]
        x_quant, w_quant, y_quant = sample_quant(rng, 1), sample_quant(rng, m), (np.float32(9.0), np.uint8(120))
        bias = rng.integers(-99, 99, m).astype(np.int32)
        return found[0], (*x_quant, found[1], *w_quant, *map(np.asarray, y_quant), bias)


def sample_quant(rng: np.random.Generator, channels: int) -> tuple[Array, Array]:
    """A scale and a zero point (u8), or vectors of one scale per channel and equal zero points."""
    scale, zero = np.float32(rng.uniform(0.1, 1.0)), np.uint8(rng.integers(100, 150))
    if channels == 1:
        return np.asarray(scale), np.asarray(zero)
    return rng.uniform(0.1, 1.0, channels).astype(np.float32), np.full(channels, zero)


@op("matmul_integer", onnx="MatMulInteger", since=10)
class MatMulInteger(Op):
    """(x - x_zero_point) times (y - y_zero_point), as i32; one zero point, or one per row of x or column of y."""

    def infer(
        self,
        x: TensorType,
        y: TensorType,
        x_zero_point: TensorType | None = None,
        y_zero_point: TensorType | None = None,
    ) -> TensorType:
        expect_bytes(x=x, y=y)
        expect_zero_point(x, x_zero_point, "x")
        expect_zero_point(y, y_zero_point, "y")
        return TensorType(I32, matmul_shape(x.shape, y.shape))

    def evaluate(
        self, x: Array, y: Array, x_zero_point: Array | None = None, y_zero_point: Array | None = None
    ) -> Array:
        zero = None if x_zero_point is None else per_row(x_zero_point)
        return as_i32(np.asarray(np.matmul(centred(x, zero), centred(y, y_zero_point))))

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return inner_macs(outputs, inputs[0])

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank < 2 or x.dtype is not U8:
            return None
        zeros = (np.array(rng.integers(256), np.uint8) for _ in range(2))
        return cls(), (x.with_shape((x.shape[-1], int(rng.integers(1, 5)))), *zeros)


def per_row(v: Array) -> Array:
    """One number, or one per row, shaped to broadcast over a matrix."""
    return v if v.ndim != 1 or v.size == 1 else v[:, None]


@op("qlinear_matmul", onnx="QLinearMatMul", since=10)
class QLinearMatMul(Op):
    """Matrix product of quantized x (per tensor or row) and y (per tensor or column), quantized to the result."""

    def infer(
        self,
        x: TensorType,
        x_scale: TensorType,
        x_zero_point: TensorType,
        y: TensorType,
        y_scale: TensorType,
        y_zero_point: TensorType,
        scale: TensorType,
        zero_point: TensorType,
    ) -> TensorType:
        expect_bytes(x=x, y=y, zero_point=zero_point)
        expect(all(t.dtype.is_float for t in (x_scale, y_scale, scale)), "needs scales of a float type")
        expect_zero_point(x, x_zero_point, "x")
        expect_zero_point(y, y_zero_point, "y")
        return TensorType(zero_point.dtype, matmul_shape(x.shape, y.shape))

    def evaluate(
        self,
        x: Array,
        x_scale: Array,
        x_zero_point: Array,
        y: Array,
        y_scale: Array,
        y_zero_point: Array,
        scale: Array,
        zero_point: Array,
    ) -> Array:
        total = np.asarray(np.matmul(centred(x, per_row(x_zero_point)), centred(y, y_zero_point)))
        factor = per_row(x_scale.astype(np.float32)) * y_scale.astype(np.float32) / scale.astype(np.float32)
        return requantized(total, factor, zero_point.reshape(()))

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return inner_macs(outputs, inputs[0])

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank < 2 or x.dtype is not U8:
            return None
        y = x.with_shape((x.shape[-1], int(rng.integers(1, 5))))
        result = (np.asarray(np.float32(9.0)), np.asarray(np.uint8(120)))
        return cls(), (*sample_quant(rng, 1), y, *sample_quant(rng, 1), *result)


__all__ = ["ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"]

"""Quantization: real numbers as few bits and back, real = scale * (stored - zero_point)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, expect, expect_opset, normalize_axis, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import convert, integer_range, widen
from compiler.tensor import DTYPES, F32, U8, Array, DType, TensorType


class Quantization(Op):
    """Base of the two directions: how scales and zero points are laid over the tensor.

    axis         None: one scale for all; else one for each element of this axis, or with
    block_size   one for each block of so many elements of that axis (the scale then has the tensor's rank)
    """

    axis: int | None = None
    block_size: int = 0

    def check(self, x: TensorType, scale: TensorType, zero_point: TensorType | None) -> None:
        """ShapeError unless scale and zero point fit x."""
        expect(scale.dtype.is_float, f"scale must be of floats, got {scale}")
        axis, one = self.axis, ((), (1,))
        same = zero_point is None or zero_point.shape == scale.shape or (zero_point.shape in one and axis is None)
        expect(same, f"zero_point {zero_point} and scale {scale} differ in shape")
        if axis is None:
            expect(scale.shape in one, f"scale {scale} is not one number; an axis is needed")
            return
        expect(0 <= axis < x.rank, f"axis {axis} is out of range for rank {x.rank}")
        length = x.shape[axis]
        if not self.block_size:
            expect(scale.shape == (length,), f"scale {scale} does not have the {length} elements of axis {axis} of {x}")
            return
        expect(isinstance(length, int), f"the unbound dimension {length!r} cannot be quantized in blocks")
        blocks = -(-x.with_shape((length,)).size // self.block_size)
        wanted = (*x.shape[:axis], blocks, *x.shape[axis + 1 :])
        expect(scale.shape == wanted, f"scale {scale} must have shape {list(wanted)} for blocks of {self.block_size}")

    def spread(self, parameter: Array, shape: Sequence[int]) -> Array:
        """A scale or zero point, so that it broadcasts to a tensor of this shape."""
        if self.axis is None:
            return parameter.reshape(())
        if not self.block_size:
            return parameter.reshape([-1 if i == self.axis else 1 for i in range(len(shape))])
        return np.repeat(parameter, self.block_size, self.axis).take(range(shape[self.axis]), self.axis)

    def expect_stored(self, e: Emitter, dtype: DType) -> None:
        """OnnxError if the opset lacks the element type that is stored."""
        expect_opset(e, 21 if dtype.is_integer and dtype.bits in (4, 16) else 0, f"quantization to {dtype}")

    def axis_in_onnx(self, e: Emitter) -> int | None:
        """The `axis` attribute to write: a tensor of rank 1 with one scale has no axis 1, the default."""
        x = e.types[0]
        assert x is not None
        expect_opset(e, 21 if self.block_size else 0, "quantization in blocks")
        return self.axis if self.axis is not None else 0 if x.rank == 1 else None


def granularity(node: OnnxNode) -> tuple[int | None, int]:
    """Axis and block size of an ONNX (de)quantization; block_size 0 with a scale of full rank is derived."""
    x, scale = node.type(0), node.type(1)
    block = node.attr("block_size", 0)
    if not block and (scale.shape in ((), (1,)) or x.rank == 0):
        return None, 0
    axis = normalize_axis(node.attr("axis", 1), x.rank)
    return axis, block


@op("quantize_linear", onnx="QuantizeLinear", since=13)
class QuantizeLinear(Quantization):
    """x / scale, rounded half to even, plus the zero point, limited to the range of `dtype`; 8-bit floats are rounded
    instead, and limited if `saturate`. Division happens in `precision`, by default the element type of scale."""

    dtype: str = "u8"
    saturate: bool = True
    precision: str | None = None

    def infer(self, x: TensorType, scale: TensorType, zero_point: TensorType | None = None) -> TensorType:
        expect(x.dtype.is_float or x.dtype.name == "i32", f"does not take elements of type {x.dtype}")
        self.check(x, scale, zero_point)
        dtype = DTYPES[self.dtype]
        expect(zero_point is None or zero_point.dtype is dtype, f"zero_point {zero_point} is not of type {dtype}")
        return x.with_dtype(dtype)

    def evaluate(self, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
        dtype = DTYPES[self.dtype]
        precision = DTYPES[self.precision].numpy if self.precision else scale.dtype
        with np.errstate(all="ignore"):
            divisor = self.spread(scale, x.shape).astype(precision)
            y = widen(np.asarray(x.astype(precision) / divisor))
            shift = 0 if zero_point is None else widen(self.spread(zero_point, x.shape).astype(np.float32))
            if dtype.is_float:
                return convert(y + shift, dtype, saturate=self.saturate)
            low, high = integer_range(dtype)
            return np.clip(np.nan_to_num(np.rint(y)) + shift, low, high).astype(np.int32).astype(dtype.numpy)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> QuantizeLinear:
        axis, block = granularity(node)
        declared = node.attr("output_dtype", None)
        dtype = node.type(2).dtype if node.has(2) else declared or U8
        precision = node.attr("precision", None)
        return cls(
            axis=axis,
            block_size=block,
            dtype=dtype.name,
            saturate=bool(node.attr("saturate", 1)),
            precision=precision and precision.name,
        )

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        dtype = DTYPES[self.dtype]
        explicit = len(inputs) < 3 and dtype is not U8
        self.expect_stored(e, dtype)
        expect_opset(e, 21 if explicit else 0, f"quantization to {dtype} without a zero point")
        expect_opset(e, 23 if self.precision else 0, f"quantization in the precision {self.precision}")
        return e.node(
            "QuantizeLinear",
            *inputs,
            axis=self.axis_in_onnx(e),
            block_size=self.block_size or None,
            output_dtype=dtype if explicit else None,
            precision=DTYPES[self.precision] if self.precision else None,
            saturate=int(self.saturate) if dtype.is_float and e.opset >= 19 else None,
        )

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.dtype is not F32 or not x.is_static:
            return None
        stored = str(rng.choice(["u8", "i8"]))
        axis, parameters = _random_parameters(rng, x, stored)
        return cls(axis=axis, dtype=stored), parameters


def _random_parameters(
    rng: np.random.Generator, x: TensorType, stored: str
) -> tuple[int | None, tuple[TensorType | Array | None, ...]]:
    axes = [i for i, d in enumerate(x.dims) if d > 1]
    axis = int(rng.choice(axes)) if axes and rng.random() < 0.5 else None
    shape = () if axis is None else (x.dims[axis],)
    scale = rng.uniform(0.01, 0.1, shape)
    return axis, (np.array(scale, np.float32), np.array(rng.integers(0, 20, shape), DTYPES[stored].numpy))


@op("dequantize_linear", onnx="DequantizeLinear", since=13)
class DequantizeLinear(Quantization):
    """(x - zero_point) * scale, in the element type `dtype`, by default that of scale."""

    dtype: str | None = None

    def infer(self, x: TensorType, scale: TensorType, zero_point: TensorType | None = None) -> TensorType:
        self.check(x, scale, zero_point)
        expect(zero_point is None or zero_point.dtype is x.dtype, f"zero_point {zero_point} is not of type {x.dtype}")
        return x.with_dtype(DTYPES[self.dtype] if self.dtype else scale.dtype)

    def evaluate(self, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
        target = DTYPES[self.dtype].numpy if self.dtype else scale.dtype
        wide = np.float64 if x.dtype == np.int32 or target == np.float64 else np.float32
        y = x.astype(wide)
        if zero_point is not None:
            y = y - self.spread(zero_point, x.shape).astype(wide)
        return np.asarray(y * self.spread(scale, x.shape).astype(wide)).astype(target)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> DequantizeLinear:
        axis, block = granularity(node)
        declared = node.attr("output_dtype", None)
        dtype = None if declared in (None, node.type(1).dtype) else declared.name
        return cls(axis=axis, block_size=block, dtype=dtype)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        stored = e.types[0]
        assert stored is not None
        self.expect_stored(e, stored.dtype)
        expect_opset(e, 23 if self.dtype else 0, f"dequantization to {self.dtype}")
        return e.node(
            "DequantizeLinear",
            *inputs,
            axis=self.axis_in_onnx(e),
            block_size=self.block_size or None,
            output_dtype=DTYPES[self.dtype] if self.dtype else None,
        )

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.dtype.name not in ("u8", "i8") or not x.is_static:
            return None
        axis, parameters = _random_parameters(rng, x, x.dtype.name)
        return cls(axis=axis), parameters


@op("dynamic_quantize_linear", onnx="DynamicQuantizeLinear", since=11)
class DynamicQuantizeLinear(Op):
    """x as u8 with the scale and zero point that its own range (0 included) asks for; results are y, scale, zero."""

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType, TensorType]:
        expect(x.dtype is F32, f"needs elements of type f32, got {x.dtype}")
        return x.with_dtype(U8), TensorType(F32, ()), TensorType(U8, ())

    def evaluate(self, x: Array) -> tuple[Array, Array, Array]:
        low, high = min(x.min(initial=0), x.dtype.type(0)), max(x.max(initial=0), x.dtype.type(0))
        scale = np.asarray((high - low) / x.dtype.type(255))
        divisor = scale or np.ones_like(scale)
        zero_point = np.clip(np.rint(-low / divisor), 0, 255)
        y = np.clip(np.rint(x / divisor) + zero_point, 0, 255).astype(np.uint8)
        return y, scale.astype(np.float32), np.asarray(zero_point).astype(np.uint8)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return (cls(), ()) if x.dtype is F32 and x.size else None

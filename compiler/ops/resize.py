"""Resampling of a tensor along its axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from compiler.errors import OnnxError
from compiler.op import Emitter, OnnxNode, Op, expect, expect_opset, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import widen
from compiler.tensor import Array, TensorType

F = np.float32  # coordinates are computed as ONNX Runtime does
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


class Taps(NamedTuple):
    """For each result along one axis [n]: which elements it reads and their weights [n, taps]."""

    places: Array
    weights: Array


def cubic_kernel(x: Array, a: float) -> Array:
    """Keys' convolution kernel at distance x; IEEE Trans. ASSP 29 (1981)."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def linear_kernel(x: Array) -> Array:
    """The triangle of half width 1 at distance x."""
    return np.maximum(1 - np.abs(x), 0)


@op("resize", onnx="Resize", since=11)
class Resize(Op):
    """x resampled to the shape `sizes`; result i along an axis lies at a coordinate of x that `coordinates` says.

    sizes          the whole shape of the result; axes with a scale of 1 and an unchanged length stay as they are
    scales         of all axes, as they enter the coordinates; may differ from the quotient of lengths
    mode           nearest, linear or cubic (with the parameter cubic_a)
    coordinates    ONNX's coordinate_transformation_mode; tf_crop_and_resize takes `roi`, all starts, then all ends
    nearest_mode   how a coordinate becomes an index
    antialias      linear and cubic kernels are widened when shrinking
    exclude_outside  elements beyond the border have no weight, instead of those at the border being repeated
    extrapolation_value  result of tf_crop_and_resize where the coordinate is not inside x
    """

    sizes: tuple[int, ...]
    scales: tuple[float, ...]
    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest_mode: str = "round_prefer_floor"
    cubic_a: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False
    extrapolation_value: float = 0.0
    roi: tuple[float, ...] = ()

    def infer(self, x: TensorType) -> TensorType:
        expect(x.dtype.is_real or self.mode == "nearest", f"does not take elements of type {x.dtype}")
        expect(self.mode in ("nearest", "linear", "cubic"), f"mode {self.mode!r} is not nearest, linear or cubic")
        expect(self.coordinates in COORDINATES, f"coordinates {self.coordinates!r} are not known")
        expect(self.nearest_mode in NEAREST, f"nearest_mode {self.nearest_mode!r} is not known")
        expect(len(self.sizes) == len(self.scales) == x.rank, f"needs {x.rank} sizes and scales for {x}")
        expect(min(self.sizes, default=0) >= 0 and min(self.scales, default=1) > 0, "needs positive sizes and scales")
        wanted = 2 * x.rank if self.coordinates == "tf_crop_and_resize" else 0
        expect(len(self.roi) in (0, wanted) and len(self.roi) >= wanted, f"needs {wanted} numbers in roi")
        for d, size, scale in zip(x.shape, self.sizes, self.scales, strict=True):
            expect(d == size or isinstance(d, int), f"dimension {d!r} must be bound to a number to be resized")
            expect(d != 0 or size == 0, f"an axis of 0 elements of {x} cannot be resized to {size}")
            expect(isinstance(d, int) or scale == 1, f"dimension {d!r} must be bound to a number to be resized")
        return x.with_shape(self.sizes)

    def resized_axes(self, shape: Sequence[int]) -> list[int]:
        """The axes along which a tensor of that shape changes."""
        rank = len(shape)
        same = [d == size and scale == 1 for d, size, scale in zip(shape, self.sizes, self.scales, strict=True)]
        if self.roi:
            same = [same[i] and self.roi[i] == 0 and self.roi[rank + i] == 1 for i in range(rank)]
        return [i for i in range(rank) if not same[i]]

    def evaluate(self, x: Array) -> Array:
        y = x
        if self.mode != "nearest":
            y = x.astype(np.float64) if x.dtype.kind in "iu" else widen(x)
        axes = self.resized_axes(x.shape)
        for axis in axes if y.size else ():
            taps = self.taps(axis, x.shape[axis])
            spread = (-1, *[1] * (y.ndim - 1 - axis))
            if self.mode == "nearest":
                y = y.take(taps.places[:, 0], axis)
                continue
            total: Array | None = None
            for index, weight in zip(taps.places.T, taps.weights.T, strict=True):
                part = y.take(index, axis) * weight.astype(y.dtype).reshape(spread)
                total = part if total is None else np.add(total, part, out=total)
            assert total is not None
            y = total
        y = np.array(y.astype(x.dtype, copy=False)).reshape(self.sizes)
        for axis in axes if self.coordinates == "tf_crop_and_resize" else ():
            at = self.coordinates_of(axis, x.shape[axis])
            outside = (at < 0) | (at > x.shape[axis] - 1)
            y[(*[slice(None)] * axis, outside)] = self.extrapolation_value
        return y

    def coordinates_of(self, axis: int, length: int) -> Array:
        """Where in x, along an axis of that length, each result lies."""
        size, scale = self.sizes[axis], F(self.scales[axis])
        i = np.arange(size, dtype=F)
        kind = self.coordinates
        if kind == "asymmetric":
            return i / scale
        if kind == "tf_half_pixel_for_nn":
            return (i + F(0.5)) / scale
        if kind == "align_corners":
            return i * F(length - 1) / F(size - 1) if size > 1 else np.zeros_like(i)
        if kind == "tf_crop_and_resize":
            start, end = F(self.roi[axis]), F(self.roi[len(self.sizes) + axis])
            if size > 1:
                return start * F(length - 1) + i * (end - start) * F(length - 1) / F(size - 1)
            return np.full_like(i, F(0.5) * (start + end) * F(length - 1))
        if kind == "pytorch_half_pixel" and size == 1:
            return np.zeros_like(i)
        at = (i + F(0.5)) / scale - F(0.5)
        if kind == "half_pixel_symmetric":
            at += F(length / 2) * (F(1) - F(size) / (scale * F(length)))
        return at

    def taps(self, axis: int, length: int) -> Taps:
        """What each result along an axis of that length reads."""
        at = self.coordinates_of(axis, length)
        if self.mode == "nearest":
            index = np.clip(self._nearest(at), 0, length - 1).astype(np.int64)
            return Taps(index[:, None], np.ones((len(at), 1), F))
        half = 1 if self.mode == "linear" else 2
        scale = min(F(self.scales[axis]), F(1)) if self.antialias else F(1)
        first = int(np.floor(-half / scale)) + 1
        base = np.floor(at)
        index = base.astype(np.int64)[:, None] + np.arange(first, 2 - first)
        distance = (index - at[:, None]) * scale
        weight = linear_kernel(distance) if half == 1 else cubic_kernel(distance, self.cubic_a)
        if self.exclude_outside or self.antialias:
            inside = (index >= 0) & (index < length)
            weight = np.where(inside, weight, 0) if self.exclude_outside else weight
            weight = weight / weight.sum(1, keepdims=True)
        return Taps(np.clip(index, 0, length - 1), weight)

    def _nearest(self, at: Array) -> Array:
        if self.nearest_mode == "floor":
            return np.floor(at)
        if self.nearest_mode == "ceil":
            return np.ceil(at)
        low = np.floor(at)
        up = at - low > F(0.5) if self.nearest_mode == "round_prefer_floor" else at - low >= F(0.5)
        return low + up

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return outputs[0].size * {"nearest": 0, "linear": 4, "cubic": 16}[self.mode]

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        raise OnnxError("resizing is read by its importer")

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        x = e.types[0]
        assert x is not None
        if self.antialias:
            expect_opset(e, 18, "Resize with antialias")
        if self.coordinates == "half_pixel_symmetric":
            expect_opset(e, 19, "Resize with half_pixel_symmetric")
        roi = e.const(np.array(self.roi, F)) if self.roi else None
        operands, policy = self._extents(e, x)
        return e.node(
            "Resize",
            *inputs,
            roi,
            *operands,
            mode=self.mode,
            coordinate_transformation_mode=self.coordinates,
            nearest_mode=self.nearest_mode if self.mode == "nearest" else None,
            cubic_coeff_a=self.cubic_a if self.mode == "cubic" else None,
            antialias=int(self.antialias) or None,
            exclude_outside=int(self.exclude_outside) or None,
            extrapolation_value=self.extrapolation_value or None,
            **policy,
        )

    def _extents(self, e: Emitter, x: TensorType) -> tuple[list[str | None], dict[str, Any]]:
        """The operands scales and sizes that give exactly these scales and sizes, and attributes that this needs."""
        if all(int(np.floor(F(d) * F(s))) == n for d, s, n in zip(x.dims, self.scales, self.sizes, strict=True)):
            return [e.const(np.array(self.scales, F)), None], {}
        quotients = [quotient(n, d) for n, d in zip(self.sizes, x.dims, strict=True)]
        axes = self.resized_axes(x.dims)
        if quotients == list(self.scales):
            return [None, e.const(np.array(self.sizes, np.int64))], {}
        for policy, choose in (("not_larger", min), ("not_smaller", max)):
            if {self.scales[a] for a in axes} == {choose(quotients[a] for a in axes)} and not self.roi:
                expect_opset(e, 18, "Resize that keeps the aspect ratio")
                sizes = e.const(np.array([self.sizes[a] for a in axes], np.int64))
                return [None, sizes], {"axes": tuple(axes), "keep_aspect_ratio_policy": policy}
        raise OnnxError(f"a resize of {x} by {self.scales} to {self.sizes} cannot be written")

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 4 or x.dtype.kind != "f" or not x.is_static or not all(x.shape):
            return None
        target = [int(v) for v in rng.integers(1, 9, 2)]
        scales = tuple(quotient(n, d) for n, d in zip(target, x.dims[2:], strict=True))
        mode = str(rng.choice(["nearest", "linear", "cubic"]))
        crop = mode != "cubic" and 1.0 not in scales and rng.random() < 0.1
        return cls(
            sizes=(*x.dims[:2], *target),
            scales=(1.0, 1.0, *scales),
            mode=mode,
            coordinates="tf_crop_and_resize" if crop else str(rng.choice(COORDINATES[:5])),
            nearest_mode=str(rng.choice(NEAREST)) if mode == "nearest" else NEAREST[0],
            exclude_outside=mode == "cubic" and bool(rng.random() < 0.5),
            antialias=mode != "nearest" and not crop and bool(rng.random() < 0.3),
            roi=(0.0, 0.0, 0.2, 0.1, 1.0, 1.0, 0.9, 1.2) if crop else (),
        ), ()


def quotient(size: int, length: int) -> float:
    """The scale that ONNX Runtime derives from two lengths."""
    return float(F(size) / F(length)) if length else 1.0


__all__ = ["Resize"]

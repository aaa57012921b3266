"""Pools: a window, or the whole image, reduced to one element per channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, ClassVar, Self

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, expect, expect_opset, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import widen
from compiler.ops.window import Ints, padded_for, read_window, sample_window, slide_all, tap_slices
from compiler.tensor import I64, Array, Shape, TensorType


class Pool(Op):
    """A reduction of windows of x [N,C,*S]. Pads are all begins, then all ends, and smaller than the kernel.

    With `ceil_mode` a last window may reach beyond the padding, if it starts before it. Reading from ONNX turns
    that into end pads where they mean the same, so it is rarely set.
    """

    kernel: Ints
    strides: Ints
    pads: Ints
    dilations: Ints
    ceil_mode: bool = False

    kinds: ClassVar[str] = "f"

    def pooled(self, x: TensorType) -> TensorType:
        """The type of the result."""
        expect(x.rank >= 3, f"needs an input of rank 3 or more, got {x}")
        expect(x.dtype.kind in self.kinds, f"does not take elements of type {x.dtype}")
        spatial = slide_all(x.shape[2:], self.kernel, self.strides, self.pads, self.dilations, self.ceil_mode)
        n = len(self.kernel)
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        expect(all(p < reach[i % n] for i, p in enumerate(self.pads)), f"pads {self.pads} reach beyond the kernel")
        return x.with_shape((*x.shape[:2], *spatial))

    def infer(self, x: TensorType) -> TensorType:
        return self.pooled(x)

    def windows(self, x: Array, fill: Any) -> tuple[Array, Ints]:
        """`x` padded with `fill`, and the spatial shape of the result."""
        window = (self.kernel, self.strides, self.pads, self.dilations)
        out: Ints = slide_all(x.shape[2:], *window, self.ceil_mode)  # type: ignore[assignment]  # numbers in, numbers out
        return padded_for(x, out, *window, fill), out

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return outputs[0].size * prod(self.kernel)

    @classmethod
    def read(cls, node: OnnxNode, outside_counts: bool = False) -> dict[str, Any]:
        """The window of a node; `outside_counts`: elements of the padding change the result, those beyond do not."""
        spatial = node.type(0).shape[2:]
        kernel = node.ints("kernel_shape")
        window = read_window(node, spatial, kernel)
        ceil = bool(node.attr("ceil_mode", 0))
        if ceil and all(isinstance(d, int) for d in spatial):
            pads = _reaching_pads(spatial, kernel, window)
            if pads == window["pads"] or not outside_counts:
                fits = all(p < k for p, k in zip(pads, kernel * 2, strict=True))
                window["pads"], ceil = (pads, False) if fits else (window["pads"], True)
        return {"kernel": kernel, "ceil_mode": ceil, **window}

    def attributes(self, e: Emitter, dilations_since: int) -> dict[str, Any]:
        """The ONNX attributes of the window; `dilations_since`: the opset from which there is `dilations`."""
        dilated = any(d != 1 for d in self.dilations)
        if dilated or self.ceil_mode:
            expect_opset(e, dilations_since, f"{self.onnx} with dilations or ceil_mode")
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "pads": self.pads,
            "dilations": self.dilations if dilated else None,
            "ceil_mode": int(self.ceil_mode) or None,
        }

    @classmethod
    def sample_attributes(cls, rng: np.random.Generator, x: TensorType) -> dict[str, Any] | None:
        """A random window over `x`, or None if it has no spatial axes to slide along."""
        if x.rank not in (3, 4, 5) or x.dtype.kind not in cls.kinds or not x.is_static or not all(x.shape):
            return None
        return {"ceil_mode": bool(rng.random() < 0.3), **sample_window(rng, x.dims[2:])}


def _reaching_pads(spatial: Shape, kernel: Ints, window: dict[str, Ints]) -> Ints:
    """Pads with which windows that fit are as many as `ceil_mode` makes."""
    pads = window["pads"]
    n = len(kernel)
    out = slide_all(spatial, kernel, window["strides"], pads, window["dilations"], ceil=True)
    ends = []
    for i in range(n):
        steps, dim = out[i], spatial[i]
        assert isinstance(steps, int)
        assert isinstance(dim, int)
        reach = (steps - 1) * window["strides"][i] + (kernel[i] - 1) * window["dilations"][i] + 1
        ends.append(max(pads[n + i], reach - pads[i] - dim))
    return (*pads[:n], *ends)


@op("max_pool", onnx="MaxPool")
class MaxPool(Pool):
    """The largest element of each window; with `indices` also where it is (i64).

    An index counts elements of the whole tensor, the first of equals; with storage_order=1 the spatial axes are
    counted column by column.
    """

    storage_order: int = 0
    indices: bool = False

    kinds = "fiu"

    def infer(self, x: TensorType) -> TensorType | tuple[TensorType, TensorType]:  # type: ignore[override]  # one or two
        expect(x.dtype.is_float or x.dtype.bits == 8, f"does not take elements of type {x.dtype}")
        y = self.pooled(x)
        return (y, y.with_dtype(I64)) if self.indices else y

    def evaluate(self, x: Array) -> Array | tuple[Array, Array]:
        least = -np.inf if x.dtype.kind not in "iu" else np.iinfo(x.dtype).min
        source, out = self.windows(x, least)
        taps = tap_slices(out, self.kernel, self.strides, self.dilations)
        if not self.indices:
            y = source[next(taps)[1]].copy()
            for _, where in taps:
                np.maximum(y, source[where], out=y)
            return y
        place, _ = self.windows(self._places(x.shape), -1)
        y = np.full((*x.shape[:2], *out), least, x.dtype)
        best = np.full(y.shape, -1, np.int64)
        for _, where in taps:
            seen, at = source[where], np.broadcast_to(place[where], y.shape)
            better = (at >= 0) & ((seen > y) | (best < 0))
            y, best = np.where(better, seen, y), np.where(better, at, best)
        return y, best

    def _places(self, shape: Sequence[int]) -> Array:
        """The index of each element of a tensor of that shape."""
        spatial = tuple(shape[2:])
        order = "F" if self.storage_order else "C"
        inside = np.arange(prod(spatial), dtype=np.int64).reshape(spatial, order=order)  # type: ignore[call-overload]  # a literal
        planes = np.arange(prod(shape[:2]), dtype=np.int64).reshape(*shape[:2], *[1] * len(spatial))
        return planes * prod(spatial) + inside

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        indices = node.n_outputs > 1
        order = node.attr("storage_order", 0) if indices else 0
        return cls(storage_order=order, indices=indices, **cls.read(node))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        order = self.storage_order or None
        return e.node(
            "MaxPool", *inputs, outputs=1 + self.indices, storage_order=order, **self.attributes(e, dilations_since=10)
        )

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        window = cls.sample_attributes(rng, x) if x.dtype.is_float or x.dtype.bits == 8 else None
        indices, order = bool(rng.random() < 0.3), int(rng.integers(2))
        return None if window is None else (cls(indices=indices, storage_order=order if indices else 0, **window), ())


@op("average_pool", onnx="AveragePool")
class AveragePool(Pool):
    """The mean of each window, over the elements of x, or over the padding too (`count_include_pad`)."""

    count_include_pad: bool = False

    def evaluate(self, x: Array) -> Array:
        source, out = self.windows(widen(x), 0)
        total: Array = np.zeros((*x.shape[:2], *out), source.dtype)
        for _, where in tap_slices(out, self.kernel, self.strides, self.dilations):
            total += source[where]
        for i, count in enumerate(self.counts(x.shape[2:], out)):
            total /= count.reshape(-1, *[1] * (len(out) - 1 - i)).astype(total.dtype)
        return total.astype(x.dtype, copy=False)

    def counts(self, spatial: Sequence[int], out: Ints) -> list[Array]:
        """Along each axis, how many elements each window has."""
        n, counts = len(out), []
        for i in range(n):
            begin, end = self.pads[i], self.pads[n + i]
            at = np.arange(out[i])[:, None] * self.strides[i] + np.arange(self.kernel[i]) * self.dilations[i] - begin
            low, high = (-begin, spatial[i] + end) if self.count_include_pad else (0, spatial[i])
            counts.append(((at >= low) & (at < high)).sum(1))
        return counts

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        counts = bool(node.attr("count_include_pad", 0))
        window = cls.read(node, outside_counts=counts)
        if counts and not any(window["pads"]):
            counts, window = False, cls.read(node)
        return cls(count_include_pad=counts, **window)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        attributes = self.attributes(e, dilations_since=19 if max(self.dilations) > 1 else 10)
        return e.node("AveragePool", *inputs, count_include_pad=int(self.count_include_pad) or None, **attributes)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        window = cls.sample_attributes(rng, x)
        return None if window is None else (cls(count_include_pad=bool(rng.random() < 0.5), **window), ())


@op("lp_pool", onnx="LpPool", since=2)
class LpPool(Pool):
    """The p-norm of each window."""

    p: int = 2

    def validate(self) -> None:
        expect(self.p >= 1, f"p {self.p} should be at least 1")

    def evaluate(self, x: Array) -> Array:
        source, out = self.windows(np.abs(widen(x)) ** self.p, 0)
        total: Array = np.zeros((*x.shape[:2], *out), source.dtype)
        for _, where in tap_slices(out, self.kernel, self.strides, self.dilations):
            total += source[where]
        return (total ** (1 / self.p)).astype(x.dtype, copy=False)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        return cls(p=int(node.attr("p", 2)), **cls.read(node))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("LpPool", *inputs, p=self.p, **self.attributes(e, dilations_since=18))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        window = cls.sample_attributes(rng, x)
        return None if window is None else (cls(p=int(rng.integers(1, 4)), **window), ())


class GlobalPool(Op):
    """A reduction of all spatial axes of x [N,C,*S] to one element."""

    reduction: ClassVar[Callable[..., Any]]

    def infer(self, x: TensorType) -> TensorType:
        expect(x.rank >= 2, f"needs an input of rank 2 or more, got {x}")
        expect(x.dtype.is_float, f"does not take elements of type {x.dtype}")
        return x.with_shape((*x.shape[:2], *[1] * (x.rank - 2)))

    def evaluate(self, x: Array) -> Array:
        y = type(self).reduction(widen(x), axis=tuple(range(2, x.ndim)), keepdims=True)
        return np.asarray(y).astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return inputs[0].size if inputs[0] is not None else 0

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return (cls(), ()) if x.rank >= 3 and x.dtype.is_float and x.is_static and all(x.shape) else None


@op("global_average_pool", onnx="GlobalAveragePool")
class GlobalAveragePool(GlobalPool):
    """The mean over the spatial axes."""

    reduction = staticmethod(np.mean)


@op("global_max_pool", onnx="GlobalMaxPool")
class GlobalMaxPool(GlobalPool):
    """The largest element over the spatial axes."""

    reduction = staticmethod(np.max)


@op("global_lp_pool", onnx="GlobalLpPool", since=2)
class GlobalLpPool(GlobalPool):
    """The p-norm over the spatial axes."""

    p: int = 2

    def validate(self) -> None:
        expect(self.p >= 1, f"p {self.p} should be at least 1")

    def evaluate(self, x: Array) -> Array:
        total = np.sum(np.abs(widen(x)) ** self.p, axis=tuple(range(2, x.ndim)), keepdims=True)
        return np.asarray(total ** (1 / self.p)).astype(x.dtype, copy=False)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        found = super().sample(rng, x)
        return found and (cls(p=int(rng.integers(1, 4))), ())


@op("max_unpool", onnx="MaxUnpool", since=11)
class MaxUnpool(Op):
    """Zeros of `shape`, with each element of x at the place that `indices` (i64, of the flat result) gives."""

    shape: Ints

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        expect(indices == TensorType(I64, x.shape), f"needs an index per element of {x}, got {indices}")
        grows = all(d <= wide for d, wide in zip(x.dims, self.shape, strict=False))
        fits = grows and x.rank == len(self.shape) and x.shape[:2] == self.shape[:2]
        expect(fits, f"shape {self.shape} does not fit {x}")
        return x.with_shape(self.shape)

    def evaluate(self, x: Array, indices: Array) -> Array:
        y = np.zeros(prod(self.shape), x.dtype)
        inside = (indices >= 0) & (indices < y.size)
        y[indices[inside]] = x[inside]
        return y.reshape(self.shape)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        x = node.type(0)
        kernel = node.ints("kernel_shape")
        window = read_window(node, x.shape[2:], kernel)
        n = len(kernel)
        spatial = (
            (d - 1) * window["strides"][i] + kernel[i] - window["pads"][i] - window["pads"][n + i]
            for i, d in enumerate(x.dims[2:])
        )
        return cls(shape=(*x.dims[:2], *spatial))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        x = e.types[0]
        assert x is not None
        kernel = tuple(wide - d + 1 for wide, d in zip(self.shape[2:], x.dims[2:], strict=True))
        return e.node("MaxUnpool", *inputs, kernel_shape=kernel)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 4 or not x.dtype.is_float or not x.is_static:
            return None
        shape = (*x.dims[:2], *(2 * d for d in x.dims[2:]))
        return cls(shape=shape), (rng.permutation(prod(shape))[: x.size].reshape(x.dims).astype(np.int64),)


__all__ = [
    "AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GlobalPool", "LpPool", "MaxPool", "MaxUnpool",
    "Pool",
]  # fmt: skip

"""Convolutions over one to three spatial axes, and the inverse of taking patches."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Self

import numpy as np

from compiler.errors import OnnxError
from compiler.op import Emitter, OnnxNode, Op, expect, expect_opset, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import widen
from compiler.ops.window import (
    Index,
    Ints,
    bound,
    expect_window,
    padded,
    patches,
    read_kernel,
    read_window,
    sample_window,
    slide_all,
    tap_slices,
)
from compiler.tensor import Array, Dim, Shape, TensorType

BLOCK = 1 << 18  # elements of a patch matrix that are made at a time


def convolve(x: Array, w: Array, strides: Ints, pads: Ints, dilations: Ints, groups: int) -> Array:
    """Grouped cross-correlation [N,C,*S] by [M,C/groups,*K], in the element type of the operands."""
    n = len(strides)
    kernel = w.shape[2:]
    out: Ints = slide_all(x.shape[2:], kernel, strides, pads, dilations)  # type: ignore[assignment]  # numbers in, numbers out
    x = padded(x, pads[:n], pads[n:])
    if w.shape[1] == 1 and groups > 1:
        return _depthwise(x, w, out, strides, dilations, groups)
    batch, channels = x.shape[:2]
    depth = channels // groups * prod(kernel)
    weights = w.reshape(groups, w.shape[0] // groups, depth)
    view = patches(x, out, kernel, strides, dilations)
    y = np.empty((batch, groups, w.shape[0] // groups, *out), x.dtype)
    rows = max(1, BLOCK // max(1, groups * depth * prod(out[1:])))
    for i in range(batch):
        for start in range(0, out[0], rows):
            where: Index = (i, *[slice(None)] * (1 + n), slice(start, start + rows))
            part = view[where]
            block = np.matmul(weights, part.reshape(groups, depth, prod(part.shape[1 + n :])))
            y[i, :, :, start : start + rows] = block.reshape(*block.shape[:2], *part.shape[1 + n :])
    return y.reshape(batch, w.shape[0], *out)


def _depthwise(x: Array, w: Array, out: Ints, strides: Ints, dilations: Ints, groups: int) -> Array:
    batch = x.shape[0]
    many = w.shape[0] // groups
    weights = w.reshape(groups, many, *w.shape[2:])
    spread = (1,) * len(out)
    y = np.zeros((batch, groups, many, *out), x.dtype)
    for tap, where in tap_slices(out, w.shape[2:], strides, dilations):
        at: Index = (slice(None), slice(None), *tap)
        y += weights[at].reshape(groups, many, *spread) * x[:, :, None][where]
    return y.reshape(batch, w.shape[0], *out)


def scatter_patches(columns: Array, size: Ints, strides: Ints, dilations: Ints) -> Array:
    """Sum of patches [*lead, *kernel, *steps] laid over an array [*lead, *size] (Caffe's col2im, any rank)."""
    n = len(size)
    lead = columns.ndim - 2 * n
    kernel, steps = columns.shape[lead : lead + n], columns.shape[lead + n :]
    y = np.zeros((*columns.shape[:lead], *size), columns.dtype)
    for tap, where in tap_slices(steps, kernel, strides, dilations):
        at: Index = (*[slice(None)] * lead, *tap)
        y[where] += columns[at]
    return y


def add_bias(y: Array, b: Array | None) -> Array:
    """The sum of y [N,M,*S] and b [M]."""
    return y if b is None else y + b.astype(y.dtype, copy=False).reshape(-1, *[1] * (y.ndim - 2))


def expect_conv(x: TensorType, w: TensorType, b: TensorType | None, inputs: Dim, outputs: Dim) -> None:
    """Raise ShapeError unless ranks, element types, channels and bias of a convolution fit together."""
    expect(x.rank >= 3 and w.rank == x.rank, f"needs an input and a weight of one rank >= 3, got {x} and {w}")
    expect(x.dtype.is_float and w.dtype is x.dtype, f"needs one float element type, got {x} and {w}")
    expect(x.shape[1] == inputs, f"the input has {x.shape[1]} channels, the weight {w} wants {inputs}")
    if b is not None:
        expect(b.shape == (outputs,) and b.dtype is x.dtype, f"needs a bias {x.dtype}[{outputs}], got {b}")


def times(dim: Dim, factor: int) -> Dim:
    """A dimension times a factor; a name can only be multiplied by one."""
    expect(isinstance(dim, int) or factor == 1, f"dimension {dim!r} must be bound to a number")
    return dim * factor if isinstance(dim, int) else dim


class Convolution(Op):
    """What convolutions share. Per spatial axis a stride and a dilation; pads are all begins, then all ends."""

    strides: Ints
    pads: Ints
    dilations: Ints
    groups: int = 1

    def validate(self) -> None:
        expect(self.groups >= 1, f"groups {self.groups} should be at least 1")


@op("conv", onnx="Conv")
class Conv(Convolution):
    """Cross-correlation of x [N,C,*S] with w [M,C/groups,*K], plus b [M]; result [N,M,*S']."""

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> TensorType:
        expect(w.rank >= 3, f"needs a weight of rank 3 or more, got {w}")
        expect_conv(x, w, b, times(w.shape[1], self.groups), w.shape[0])
        m = w.shape[0]
        expect(isinstance(m, str) or m % self.groups == 0, f"{m} filters do not split into {self.groups} groups")
        kernel = bound(w.shape[2:])
        spatial = slide_all(x.shape[2:], kernel, self.strides, self.pads, self.dilations)
        return TensorType(x.dtype, (x.shape[0], m, *spatial))

    def evaluate(self, x: Array, w: Array, b: Array | None = None) -> Array:
        y = convolve(widen(x), widen(w), self.strides, self.pads, self.dilations, self.groups)
        return add_bias(y, b).astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        w = inputs[1]
        assert w is not None
        return outputs[0].size * prod(w.dims[1:])

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        kernel = read_kernel(node, node.type(1).shape)
        return cls(groups=node.attr("group", 1), **read_window(node, node.type(0).shape[2:], kernel))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("Conv", *inputs, **window_attributes(self, e))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank not in (3, 4, 5) or not x.dtype.is_float or not x.is_static or not all(x.shape):
            return None
        window = sample_window(rng, x.dims[2:])
        kernel = window.pop("kernel")
        groups, m = sample_groups(rng, x.dims[1])
        w = x.with_shape((m, x.dims[1] // groups, *kernel))
        return cls(groups=groups, **window), (w, x.with_shape((m,))) if rng.random() < 0.7 else (w,)


def window_attributes(conv: Convolution, e: Emitter, weight: int = 1) -> dict[str, Any]:
    """The ONNX attributes that convolutions share; `weight` is the index of that operand."""
    w = e.types[weight]
    assert w is not None
    return {
        "kernel_shape": w.dims[2:],
        "strides": conv.strides,
        "pads": conv.pads,
        "dilations": conv.dilations,
        "group": conv.groups,
    }


def sample_groups(rng: np.random.Generator, channels: int) -> tuple[int, int]:
    """A divisor of the channels, and a multiple of it."""
    groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
    return groups, groups * int(rng.integers(1, 4))


@op("conv_transpose", onnx="ConvTranspose")
class ConvTranspose(Convolution):
    """The transpose of the map of a convolution with w [C,M/groups,*K] of x [N,C,*S], plus b [M].

    Extents are (S - 1) * stride + (K - 1) * dilation + 1 + output_padding - pads.
    """

    output_padding: Ints

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> TensorType:
        expect(w.rank >= 3, f"needs a weight of rank 3 or more, got {w}")
        m = times(w.shape[1], self.groups)
        expect_conv(x, w, b, w.shape[0], m)
        c = x.shape[1]
        expect(isinstance(c, str) or c % self.groups == 0, f"{c} channels do not split into {self.groups} groups")
        n = x.rank - 2
        kernel = bound(w.shape[2:])
        expect_window(n, kernel, self.strides, self.pads, self.dilations)
        extra = self.output_padding
        expect(len(extra) == n and min(extra, default=0) >= 0, f"output_padding {extra} does not fit {n} spatial axes")
        out: list[Dim] = []
        for i, dim in enumerate(x.shape[2:]):
            reach = (kernel[i] - 1) * self.dilations[i] + 1 + extra[i] - self.pads[i] - self.pads[n + i]
            if isinstance(dim, str):
                expect(self.strides[i] == reach == 1, f"dimension {dim!r} must be bound to a number")
                out.append(dim)
            else:
                grown = (dim - 1) * self.strides[i] + reach
                out.append(grown)
                expect(dim > 0 and grown > 0, f"pads {self.pads} leave nothing of axis {i + 2} of {x}")
        return TensorType(x.dtype, (*x.shape[:1], m, *out))

    def evaluate(self, x: Array, w: Array, b: Array | None = None) -> Array:
        n, g = len(self.strides), self.groups
        batch, channels, *spatial = x.shape
        kernel = w.shape[2:]
        weights = widen(w).reshape(g, channels // g, -1).transpose(0, 2, 1)
        columns = np.matmul(weights, widen(x).reshape(batch, g, channels // g, prod(spatial)))
        size = tuple(
            (d - 1) * s + (k - 1) * t + 1 + p
            for d, s, k, t, p in zip(spatial, self.strides, kernel, self.dilations, self.output_padding, strict=True)
        )
        columns = columns.reshape(batch, g * w.shape[1], *kernel, *spatial)
        y = scatter_patches(columns, size, self.strides, self.dilations)
        inside: Index = (..., *(slice(self.pads[i], size[i] - self.pads[n + i]) for i in range(n)))
        return add_bias(y[inside], b).astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        x, w = inputs[:2]
        assert x is not None
        assert w is not None
        return x.size * prod(w.dims[1:])

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        spatial = node.type(0).shape[2:]
        kernel = read_kernel(node, node.type(1).shape)
        strides = node.ints("strides", default=(1,) * len(kernel))
        auto = node.attributes.get("auto_pad", "NOTSET")
        explicit = OnnxNode("Conv", node.version, node.inputs, {**node.attributes, "auto_pad": "NOTSET"})
        window = read_window(explicit, spatial, kernel)
        extra = node.ints("output_padding", default=(0,) * len(kernel))
        expect(len(extra) == len(kernel), f"output_padding {extra} should have {len(kernel)} numbers")
        target = node.ints("output_shape", default=None)
        if target is not None:
            window["pads"], extra = _pads_for(target, spatial, kernel, window, extra, auto == "SAME_UPPER")
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            target = [times(d, s) for d, s in zip(spatial, strides, strict=True)]
            window["pads"], _ = _pads_for(target, spatial, kernel, window, extra, auto == "SAME_UPPER")
        elif auto == "VALID":
            window["pads"] = (0,) * 2 * len(kernel)
        return cls(groups=node.attr("group", 1), output_padding=extra, **window)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        extra = self.output_padding if any(self.output_padding) else None
        return e.node("ConvTranspose", *inputs, output_padding=extra, **window_attributes(self, e))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank not in (3, 4) or not x.dtype.is_float or not x.is_static or not all(x.shape):
            return None
        n = x.rank - 2
        kernel, strides, dilations = (tuple(int(v) for v in rng.integers(1, 4, n)) for _ in range(3))
        extra = tuple(int(rng.integers(0, s)) for s in strides)
        pads = tuple(int(rng.integers(0, k)) for k in (*kernel, *kernel))
        sizes = ((x.dims[2 + i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 for i in range(n))
        if any(size <= pads[i] + pads[n + i] for i, size in enumerate(sizes)):
            pads = (0,) * 2 * n
        groups, m = sample_groups(rng, x.dims[1])
        conv = cls(strides=strides, pads=pads, dilations=dilations, groups=groups, output_padding=extra)
        return conv, (x.with_shape((x.dims[1], m // groups, *kernel)), x.with_shape((m,)))


def _pads_for(
    target: Sequence[Dim], spatial: Shape, kernel: Ints, window: dict[str, Ints], extra: Ints, upper: bool
) -> tuple[Ints, Ints]:
    """Pads and output padding with which a ConvTranspose gives the spatial shape `target`."""
    target = tuple(target)[-len(kernel) :]
    if len(target) != len(kernel) or any(isinstance(d, str) for d in (*target, *spatial)):
        raise OnnxError(f"output_shape {list(target)} cannot be reached from {list(spatial)}")
    begins, ends, grown = [], [], []
    for i, (d, k) in enumerate(zip(spatial, kernel, strict=True)):
        full = (int(d) - 1) * window["strides"][i] + extra[i] + (k - 1) * window["dilations"][i] + 1
        total = max(full - int(target[i]), 0)
        begins.append(total // 2 if upper else total - total // 2)
        ends.append(total - begins[-1])
        grown.append(extra[i] + max(int(target[i]) - full, 0))
    return (*begins, *ends), tuple(grown)


@op("col2im", onnx="Col2Im", since=18)
class Col2Im(Op):
    """Sum of the patches x [N,C*prod(block),L] laid over an image [N,C,*image]."""

    image: Ints
    block: Ints
    strides: Ints
    pads: Ints
    dilations: Ints

    @property
    def steps(self) -> Ints:
        """How many patches there are along each axis."""
        return slide_all(self.image, self.block, self.strides, self.pads, self.dilations)  # type: ignore[return-value]  # numbers in, numbers out

    def infer(self, x: TensorType) -> TensorType:
        expect(x.rank == 3 and x.dtype.is_real, f"needs a real tensor of rank 3, got {x}")
        channels, patch, length = x.shape[1], prod(self.block), prod(self.steps)
        expect(isinstance(channels, int) and channels % patch == 0, f"{channels} rows are no multiple of {patch}")
        expect(x.shape[2] == length, f"needs {length} patches, got {x.shape[2]}")
        assert isinstance(channels, int)
        return x.with_shape((x.shape[0], channels // patch, *self.image))

    def evaluate(self, x: Array) -> Array:
        n = len(self.image)
        columns = widen(x).reshape(x.shape[0], -1, *self.block, *self.steps)
        size = tuple(self.pads[i] + d + self.pads[n + i] for i, d in enumerate(self.image))
        y = scatter_patches(columns, size, self.strides, self.dilations)
        inside: Index = (..., *(slice(self.pads[i], self.pads[i] + d) for i, d in enumerate(self.image)))
        return y[inside].astype(x.dtype)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        image, block = node.ints("", 1), node.ints("", 2)
        return cls(image=image, block=block, **read_window(node, image, block))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        expect_opset(e, self.since, self.onnx)
        image, block = e.const(list(self.image)), e.const(list(self.block))
        return e.node("Col2Im", *inputs, image, block, strides=self.strides, pads=self.pads, dilations=self.dilations)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 3 or not x.dtype.is_float or not x.is_static or not all(x.shape):
            return None
        patch, length = x.dims[1:]
        block = (patch, 1) if rng.random() < 0.5 else (1, patch)
        image = (length + block[0] - 1, block[1])
        return cls(image=image, block=block, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1)), ()


__all__ = ["Col2Im", "Conv", "ConvTranspose", "Convolution"]

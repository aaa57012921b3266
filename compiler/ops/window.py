"""Sliding windows: attributes read from ONNX, output extents, padding and patches; shared by convolutions and pools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from compiler.errors import OnnxError
from compiler.op import OnnxNode, expect
from compiler.tensor import Array, Dim, Shape

Ints = tuple[int, ...]
Index = tuple[Any, ...]  # Any: what numpy takes between brackets has no short type


def bound(dims: Shape) -> Ints:
    """The dimensions as numbers; ShapeError while one is still a name."""
    for d in dims:
        expect(isinstance(d, int), f"dimension {d!r} must be bound to a number")
    return dims  # type: ignore[return-value]  # just checked


def slide(dim: Dim, kernel: int, stride: int, begin: int, end: int, dilation: int, ceil: bool = False) -> Dim:
    """How many windows fit along one axis. With `ceil` a last window may reach beyond the padding, if it starts
    before it. A named dimension passes only where its extent does not change."""
    extent = (kernel - 1) * dilation + 1
    if isinstance(dim, str):
        same = stride == 1 and begin + end == extent - 1
        expect(same, f"dimension {dim!r} must be bound to a number to slide a window over it")
        return dim
    room = dim + begin + end - extent
    expect(room >= 0, f"a window of {extent} does not fit into {dim} elements padded by {begin} and {end}")
    steps = room // stride
    if ceil and room % stride and (steps + 1) * stride < dim + begin:
        steps += 1
    return steps + 1


def expect_window(n: int, kernel: Ints, strides: Ints, pads: Ints, dilations: Ints) -> None:
    """Raise ShapeError unless the attributes describe a window over `n` spatial axes."""
    for name, values, length in (
        ("kernel", kernel, n),
        ("strides", strides, n),
        ("pads", pads, 2 * n),
        ("dilations", dilations, n),
    ):
        expect(len(values) == length, f"{name} {values} should have {length} numbers for {n} spatial axes")
        least = 0 if name == "pads" else 1
        expect(all(v >= least for v in values), f"{name} {values} should be at least {least}")


def slide_all(spatial: Shape, kernel: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil: bool = False) -> Shape:
    """Spatial shape of the result; the attributes are checked against the number of axes."""
    n = len(spatial)
    expect_window(n, kernel, strides, pads, dilations)
    return tuple(slide(spatial[i], kernel[i], strides[i], pads[i], pads[n + i], dilations[i], ceil) for i in range(n))


def same_pads(spatial: Shape, kernel: Ints, strides: Ints, dilations: Ints, upper: bool) -> Ints:
    """Pads that make ceil(dim / stride) windows; an odd one goes to the end (`upper`) or the beginning."""
    begins, ends = [], []
    for dim, k, s, d in zip(spatial, kernel, strides, dilations, strict=True):
        extent = (k - 1) * d + 1
        if isinstance(dim, str):
            expect(s == 1, f"dimension {dim!r} must be bound to a number for automatic padding")
            total = extent - 1
        else:
            total = max((-(-dim // s) - 1) * s + extent - dim, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if upper else more)
        ends.append(more if upper else less)
    return (*begins, *ends)


def read_kernel(node: OnnxNode, weight: Shape) -> Ints:
    """Spatial kernel shape of a convolution's weight, which must agree with the attribute if that is given."""
    expect(len(weight) >= 3, f"needs a weight of rank 3 or more, got shape {list(weight)}")
    if any(isinstance(d, str) for d in weight[2:]):
        raise OnnxError(f"the kernel shape of the weight {list(weight)} is not known")
    kernel = tuple(int(d) for d in weight[2:])
    declared = node.ints("kernel_shape", default=kernel)
    if declared != kernel:
        raise OnnxError(f"kernel_shape {list(declared)} disagrees with the weight, whose kernel is {list(kernel)}")
    return kernel


def read_window(node: OnnxNode, spatial: Shape, kernel: Ints) -> dict[str, Ints]:
    """strides, dilations and explicit pads of a node; auto_pad is resolved."""
    n = len(kernel)
    strides = node.ints("strides", default=(1,) * n)
    dilations = node.ints("dilations", default=(1,) * n)
    mode = node.attr("auto_pad", "NOTSET")
    pads: Ints = node.ints("pads", default=(0,) * 2 * n) if mode == "NOTSET" else (0,) * 2 * n
    expect(len(spatial) == n, f"needs an input with {n} spatial axes, it has {len(spatial)}")
    expect_window(n, kernel, strides, pads, dilations)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = same_pads(spatial, kernel, strides, dilations, mode == "SAME_UPPER")
    elif mode not in ("NOTSET", "VALID"):
        raise OnnxError(f"auto_pad {mode!r} is not one of NOTSET, VALID, SAME_UPPER, SAME_LOWER")
    return {"strides": strides, "pads": pads, "dilations": dilations}


def padded(x: Array, begins: Sequence[int], ends: Sequence[int], fill: Any = 0) -> Array:
    """`x` with its trailing axes padded by `fill`; itself if there is nothing to add."""
    if not any(begins) and not any(ends):
        return x
    lead = x.ndim - len(begins)
    spatial = x.shape[lead:]
    out = np.full((*x.shape[:lead], *(b + d + e for b, d, e in zip(begins, spatial, ends, strict=True))), fill, x.dtype)
    inside: Index = (..., *(slice(b, b + d) for b, d in zip(begins, spatial, strict=True)))
    out[inside] = x
    return out


def padded_for(x: Array, out: Ints, kernel: Ints, strides: Ints, pads: Ints, dilations: Ints, fill: Any = 0) -> Array:
    """`x` padded so that `out` windows can be read from it, beyond the end pads if need be (ceil mode)."""
    n = len(kernel)
    ends = []
    for i in range(n):
        reach = (out[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1
        ends.append(max(reach - pads[i] - x.shape[x.ndim - n + i], 0))
    return padded(x, pads[:n], ends, fill)


def tap_slices(out: Ints, kernel: Ints, strides: Ints, dilations: Ints) -> Iterator[tuple[Ints, Index]]:
    """For each position in the kernel: its index, and the index [..., *slices] of what the windows see there."""
    for tap in product(*map(range, kernel)):
        axes = zip(tap, out, strides, dilations, strict=True)
        yield tap, (..., *(slice(k * d, k * d + (o - 1) * s + 1, s) for k, o, s, d in axes))


def patches(x: Array, out: Ints, kernel: Ints, strides: Ints, dilations: Ints) -> Array:
    """View [..., *kernel, *out] of every window of a padded array [..., *spatial]."""
    n = len(kernel)
    lead = x.ndim - n
    steps = x.strides[lead:]
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:lead], *kernel, *out),
        (
            *x.strides[:lead],
            *(step * d for step, d in zip(steps, dilations, strict=True)),
            *(step * s for step, s in zip(steps, strides, strict=True)),
        ),
        writeable=False,
    )


def sample_window(rng: np.random.Generator, spatial: Ints) -> dict[str, Ints]:
    """A random window (kernel, strides, pads, dilations) that fits; pads are smaller than the kernel."""
    kernel, strides, dilations, begins, ends = [], [], [], [], []
    for d in spatial:
        k = int(rng.integers(1, 4))
        b, e = (int(v) for v in rng.integers(0, k, 2))
        dilation = int(rng.integers(1, 3))
        while (k - 1) * dilation + 1 > d + b + e:
            dilation, k = max(dilation - 1, 1), max(k - (dilation == 1), 1)
            b, e = min(b, k - 1), min(e, k - 1)
        kernel.append(k)
        strides.append(int(rng.integers(1, 4)))
        dilations.append(dilation)
        begins.append(b)
        ends.append(e)
    return {
        "kernel": tuple(kernel),
        "strides": tuple(strides),
        "pads": (*begins, *ends),
        "dilations": tuple(dilations),
    }

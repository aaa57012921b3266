"""Resize and Upsample of all versions as one operation with explicit sizes and scales; grids of affine maps."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from compiler.errors import OnnxError
from compiler.graph import Value
from compiler.importers.registry import LayerBuilder, importer
from compiler.importers.shape import operand
from compiler.importers.signal import expect_bounded
from compiler.op import OnnxNode, expect, normalize_axis
from compiler.ops.matmul import MatMul
from compiler.ops.resize import Resize, quotient
from compiler.ops.shape import Reshape, Transpose
from compiler.tensor import Array


@importer("Upsample")
def upsample(node: OnnxNode, b: LayerBuilder) -> Value:
    """Resize with coordinates i / scale, rounded down."""
    x = operand(node)
    scales = _floats(node, "scales", 1)
    return _resized(b, x, scales, _sizes(x, scales), mode=_mode(node), coordinates="asymmetric", nearest_mode="floor")


@importer("Resize")
def resize(node: OnnxNode, b: LayerBuilder) -> Value:
    """Before opset 11 coordinates are i / scale, rounded down when growing and up when shrinking."""
    x = operand(node)
    if node.version < 11:
        return _resize_10(node, b, x)
    rank, dims = x.type.rank, x.type.dims
    axes = [normalize_axis(a, rank) for a in node.ints("axes", None, tuple(range(rank)))]
    scales, sizes = [1.0] * rank, list(dims)
    given = _floats(node, "", 2) if node.has(2) else ()
    if len(given) == len(axes):
        for axis, scale in zip(axes, given, strict=True):
            scales[axis] = scale
        sizes = _sizes(x, scales)
    else:
        wanted = node.ints("", 3)
        expect(len(wanted) == len(axes), f"needs {len(axes)} sizes, got {len(wanted)}")
        _keep_aspect(node, dims, axes, wanted, scales, sizes)
    crop = node.attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    return _resized(
        b,
        x,
        scales,
        sizes,
        mode=_mode(node),
        coordinates=node.attr("coordinate_transformation_mode", "half_pixel"),
        nearest_mode=node.attr("nearest_mode", "round_prefer_floor"),
        cubic_a=node.attr("cubic_coeff_a", -0.75),
        antialias=bool(node.attr("antialias", 0)),
        exclude_outside=bool(node.attr("exclude_outside", 0)),
        extrapolation_value=node.attr("extrapolation_value", 0.0),
        roi=_region(node, rank, axes) if crop else (),
    )


def _resize_10(node: OnnxNode, b: LayerBuilder, x: Value) -> Value:
    scales = _floats(node, "scales", 1)
    for limit, rounding in ((min, "ceil"), (max, "floor")):
        part = tuple(limit(s, 1.0) for s in scales)
        x = _resized(b, x, part, _sizes(x, part), mode=_mode(node), coordinates="asymmetric", nearest_mode=rounding)
    return x


def _keep_aspect(
    node: OnnxNode,
    dims: Sequence[int],
    axes: Sequence[int],
    wanted: Sequence[int],
    scales: list[float],
    sizes: list[int],
) -> None:
    """Fill in scales and sizes from the wanted sizes; a policy replaces them by one scale for all axes."""
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    for axis, size in zip(axes, wanted, strict=True):
        sizes[axis], scales[axis] = size, quotient(size, dims[axis])
    if policy == "stretch":
        return
    if policy not in ("not_larger", "not_smaller"):
        raise OnnxError(f"keep_aspect_ratio_policy {policy!r} is not stretch, not_larger or not_smaller")
    scale = (min if policy == "not_larger" else max)(scales[a] for a in axes)
    for axis in axes:
        scales[axis], sizes[axis] = scale, int(np.floor(np.float32(scale) * np.float32(dims[axis]) + np.float32(0.5)))


def _region(node: OnnxNode, rank: int, axes: Sequence[int]) -> tuple[float, ...]:
    given = _floats(node, "", 1)
    expect(len(given) == 2 * len(axes), f"needs {2 * len(axes)} numbers in roi, got {len(given)}")
    roi = [0.0] * rank + [1.0] * rank
    for i, axis in enumerate(axes):
        roi[axis], roi[rank + axis] = given[i], given[len(axes) + i]
    return tuple(roi)


def _floats(node: OnnxNode, name: str, index: int) -> tuple[float, ...]:
    if name in node.attributes:
        return tuple(float(v) for v in node.attributes[name])
    return tuple(float(v) for v in node.const(index).reshape(-1))


def _mode(node: OnnxNode) -> str:
    mode: str = node.attr("mode", "nearest")
    return "linear" if mode == "bilinear" else mode


def _sizes(x: Value, scales: Sequence[float]) -> list[int]:
    expect(len(scales) == x.type.rank, f"needs one scale per axis of {x.type}, got {len(scales)}")
    return [int(np.floor(np.float32(d) * np.float32(s))) for d, s in zip(x.type.dims, scales, strict=True)]


def _resized(
    b: LayerBuilder,
    x: Value,
    scales: Sequence[float],
    sizes: Sequence[int],
    **options: str | float | bool | tuple[float, ...],
) -> Value:
    op = Resize(sizes=tuple(sizes), scales=tuple(scales), **options)  # type: ignore[arg-type]  # fields of Resize by name
    return b.add(op, x) if op.resized_axes(x.type.dims) else x


@importer("AffineGrid")
def affine_grid(node: OnnxNode, b: LayerBuilder) -> Value:
    """The product of theta [N,n,n+1] and the homogeneous coordinates of all places of an image, as a grid [N,*D,n]."""
    theta = operand(node)
    size = node.ints("size", 1)
    dims = size[2:]
    fits = theta.type.shape == (size[0], len(dims), len(dims) + 1)
    expect(fits, f"theta {theta.type} does not fit an image of shape {list(size)}")
    expect_bounded(prod(dims), "a grid")
    axes = [_steps(d, bool(node.attr("align_corners", 0))) for d in dims]
    places = [g.reshape(-1) for g in np.meshgrid(*axes, indexing="ij")][::-1]
    homogeneous = np.stack([*places, np.ones_like(places[0])], 1)
    turned = b.add(Transpose(perm=(0, 2, 1)), theta)
    grid = b.add(MatMul(), b.const(homogeneous, like=theta), turned)
    return b.add(Reshape(shape=(size[0], *dims, len(dims))), grid)


def _steps(length: int, align_corners: bool) -> Array:
    """Coordinates from -1 to 1: those of the elements, or of the middles of as many parts."""
    if align_corners:
        return np.linspace(-1, 1, length) if length > 1 else np.array([-1.0])
    return (2 * np.arange(length) + 1) / length - 1

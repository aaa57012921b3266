"""Resizing and sampling of images, by the formulas in Apple's documentation of the operations."""

from __future__ import annotations

import numpy as np

from compiler.errors import EmitError
from targets.coreml.evaluate.registry import Tensor, mil

Bound = float | Tensor


def _grid(start: Bound, end: Bound, count: int, mode: str) -> Tensor:
    """`count` sampling points in [start, end], in a new last axis; the range may be reversed."""
    low, high = np.asarray(start, np.float64)[..., None], np.asarray(end, np.float64)[..., None]
    i = np.arange(count)
    length = high - low
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if count == 1:
            return (low + high) / 2 if mode == "ALIGN_CORNERS" else low + 0 * i
        return low + i * (length / (count - 1))
    sign = np.where(length < 0, -1.0, 1.0)
    size = np.abs(length) + 1
    if mode == "DEFAULT":
        points = i * (size / count)
    elif mode == "OFFSET_CORNERS":
        points = (i + 0.5) * (np.maximum(1, np.abs(length)) / count)
    elif mode == "UNALIGN_CORNERS":
        points = (i + 0.5) * (size / count) - 0.5
    else:
        raise EmitError(f"MIL has no sampling mode {mode!r}")
    return low + sign * np.clip(points, 0, np.abs(length))


def _interpolate(x: Tensor, axis: int, points: Tensor) -> Tensor:
    """Linear interpolation of `x` along `axis` at `points` within it."""
    left = np.clip(np.floor(points).astype(np.int64), 0, x.shape[axis] - 1)
    right = np.minimum(left + 1, x.shape[axis] - 1)
    share = (points - left).astype(np.float32).reshape((-1,) + (1,) * (x.ndim - 1 - axis % x.ndim))
    return np.take(x, left, axis=axis) * (1 - share) + np.take(x, right, axis=axis) * share


def _resize_linear(x: Tensor, axis: int, count: int, mode: str) -> Tensor:
    return _interpolate(x, axis, _grid(0.0, x.shape[axis] - 1.0, count, mode))


@mil("resize_bilinear")
def resize_bilinear(x: Tensor, target_size_height: int, target_size_width: int, sampling_mode: str) -> Tensor:
    """The last two axes at a new size."""
    return _resize_linear(
        _resize_linear(x, -2, target_size_height, sampling_mode), -1, target_size_width, sampling_mode
    )


@mil("upsample_bilinear")
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float,
    scale_factor_width: float,
    align_corners: bool,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """The last two axes scaled; the scale is recomputed from the rounded size."""
    half = not align_corners if half_pixel_centers is None else half_pixel_centers
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half else "DEFAULT"
    height, width = _scaled(x, scale_factor_height, scale_factor_width)
    return resize_bilinear(x, height, width, mode)


def _scaled(x: Tensor, height: float, width: float) -> tuple[int, int]:
    return int(np.floor(np.float32(x.shape[-2]) * height)), int(np.floor(np.float32(x.shape[-1]) * width))


def _nearest(x: Tensor, axis: int, count: int) -> Tensor:
    return np.take(x, np.arange(count) * x.shape[axis] // count, axis=axis)


@mil("resize_nearest_neighbor", moves=True)
def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """The last two axes at a new size; element i comes from floor(i * old / new)."""
    return _nearest(_nearest(x, -2, target_size_height), -1, target_size_width)


@mil("upsample_nearest_neighbor", moves=True)
def upsample_nearest_neighbor(x: Tensor, scale_factor_height: float, scale_factor_width: float) -> Tensor:
    """The last two axes scaled; element i comes from floor(i * old / new)."""
    height, width = _scaled(x, scale_factor_height, scale_factor_width)
    return _nearest(_nearest(x, -2, height), -1, width)


@mil("resize")
def resize(x: Tensor, shape: Tensor, resized_dims: int, interpolation_mode: str, sampling_mode: str) -> Tensor:
    """The last `resized_dims` axes at the sizes that end `shape`; 0 keeps a size.

    Nearest takes the element next to the sampling point; at a tie, which Apple does not document, the even one.
    """
    for axis in range(-int(resized_dims), 0):
        count = int(shape[axis]) or x.shape[axis]
        if interpolation_mode == "LINEAR":
            x = _resize_linear(x, axis, count, sampling_mode)
        else:
            points = np.rint(_grid(0.0, x.shape[axis] - 1.0, count, sampling_mode)).astype(np.int64)
            x = np.take(x, np.clip(points, 0, x.shape[axis] - 1), axis=axis)
    return x


def _unnormalize(c: Tensor, size: int, mode: str, align_corners: bool) -> Tensor:
    """Coordinates in pixels, 0 the centre of the first."""
    if mode == "unnormalized":
        return c
    unit = (c + 1) / 2 if mode == "normalized_minus_one_to_one" else c
    return unit * (size - 1) if align_corners else unit * size - 0.5


def _fold(c: Tensor, low: float, high: float) -> Tensor:
    """Coordinates reflected at `low` and `high` until they lie between."""
    span = high - low
    if span <= 0:
        return np.full_like(c, low)
    c = np.mod(c - low, 2 * span)
    return low + np.where(c > span, 2 * span - c, c)


def _inside(c: Tensor, size: int, padding_mode: str) -> Tensor:
    if padding_mode == "border":
        return np.clip(c, 0, size - 1)
    if padding_mode == "reflection":
        return _fold(c, 0, size - 1)
    if padding_mode == "symmetric":
        return np.clip(_fold(c, -0.5, size - 0.5), 0, size - 1)
    return c


def _sample(image: Tensor, x: Tensor, y: Tensor, outside: float, nearest: bool) -> Tensor:
    """Values of one image (C, H, W) at pixel coordinates; neighbours beyond its border have the value `outside`."""
    height, width = image.shape[-2:]

    def at(row: Tensor, column: Tensor) -> Tensor:
        valid = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        rows, columns = np.clip(row, 0, height - 1).astype(np.int64), np.clip(column, 0, width - 1).astype(np.int64)
        return np.where(valid, image[:, rows, columns], np.float32(outside))

    if nearest:
        return at(np.rint(y), np.rint(x))
    top, left = np.floor(y), np.floor(x)
    down, right = (y - top).astype(np.float32), (x - left).astype(np.float32)
    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return upper * (1 - down) + lower * down


@mil("resample")
def resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Values of each image of (B, C, H, W) at points (B, H2, W2, [x, y]); ties of `nearest` go to the even pixel."""
    height, width = x.shape[-2:]
    points = coordinates.astype(np.float64)
    column = _inside(_unnormalize(points[..., 0], width, coordinates_mode, align_corners), width, padding_mode)
    row = _inside(_unnormalize(points[..., 1], height, coordinates_mode, align_corners), height, padding_mode)
    nearest = sampling_mode == "nearest"
    return np.stack([_sample(i, c, r, padding_value, nearest) for i, c, r in zip(x, column, row, strict=True)])


@mil("affine")
def affine(
    x: Tensor,
    transform_matrix: Tensor,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Bilinear samples at affinely mapped normalised coordinates; x' = a0 x + a1 y + a2, y' = b0 x + b1 y + b2."""
    line = [_normalized(n, align_corners) for n in (output_height, output_width)]
    y, column = np.meshgrid(line[0], line[1], indexing="ij")
    matrix = np.broadcast_to(transform_matrix, (len(x), 6)).astype(np.float64)
    a0, a1, a2, b0, b1, b2 = (matrix[:, i, None, None] for i in range(6))
    points = np.stack([a0 * column + a1 * y + a2, b0 * column + b1 * y + b2], axis=-1)
    return resample(x, points, sampling_mode, padding_mode, padding_value, coordinates_mode, align_corners)


def _normalized(count: int, align_corners: bool) -> Tensor:
    """Pixel centres as coordinates in [-1, 1]."""
    if align_corners:
        return np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
    return (np.arange(count) * 2 + 1) / count - 1


@mil("crop_resize")
def crop_resize(
    x: Tensor,
    target_height: int,
    target_width: int,
    normalized_coordinates: bool,
    spatial_scale: float,
    box_coordinate_mode: str,
    sampling_mode: str,
    roi: Tensor | None = None,
    boxes: Tensor | None = None,
    box_indices: Tensor | None = None,
    pad_value: float | None = None,
) -> Tensor:
    """Boxes of the images, each at a new size, by bilinear interpolation.

    Up to iOS 16 `roi` is (N, 1, 4 or 5, 1, 1), with an image index first if 5, and the result has an axis for the
    images; since iOS 17 there are `boxes` (N, 4) and `box_indices`. Without a `pad_value` (iOS 15), points beyond the
    border take its value.
    """
    if sampling_mode == "UNALIGN_CORNERS":
        raise EmitError("what crop_resize does with the sampling mode UNALIGN_CORNERS is not documented")
    rows = np.asarray(boxes if roi is None else roi.reshape(len(roi), -1), np.float64)
    images: list[range | list[int]]
    if roi is None:
        owner = np.arange(len(rows)) if box_indices is None else box_indices
        images = [[int(i)] for i in owner]
    elif rows.shape[1] == 5:
        images = [[int(i)] for i in rows[:, 0]]
    else:
        images = [range(len(x))] * len(rows)
    points = _box_points(rows[:, -4:], box_coordinate_mode) * spatial_scale
    height, width = x.shape[-2:]
    if normalized_coordinates:
        points = points * np.array([height - 1, width - 1, height - 1, width - 1])
    vertical = _grid(points[:, 0], points[:, 2], target_height, sampling_mode)
    across = _grid(points[:, 1], points[:, 3], target_width, sampling_mode)
    if pad_value is None:
        vertical, across = np.clip(vertical, 0, height - 1), np.clip(across, 0, width - 1)
    result = np.stack(
        [
            np.stack([_sample_box(x[i], vertical[n], across[n], pad_value or 0) for i in owners])
            for n, owners in enumerate(images)
        ]
    )
    return result[:, 0] if roi is None else result


def _sample_box(image: Tensor, rows: Tensor, columns: Tensor, pad_value: float) -> Tensor:
    """Bilinear samples at a grid of points; points, not neighbours, beyond the border have `pad_value`."""
    height, width = image.shape[-2:]
    inside = ((rows >= 0) & (rows <= height - 1))[:, None] & ((columns >= 0) & (columns <= width - 1))
    y, x = np.meshgrid(np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1), indexing="ij")
    return np.where(inside, _sample(image, x, y, 0, False), np.float32(pad_value))


def _box_points(boxes: Tensor, mode: str) -> Tensor:
    """[top, left, bottom, right] of each box."""
    first, second = boxes[:, :2], boxes[:, 2:]
    if mode.endswith("WIDTH_FIRST"):
        first, second = first[:, ::-1], second[:, ::-1]
    if mode.startswith("CENTER_SIZE"):
        first, second = first - second / 2, first + second / 2
    return np.concatenate([first, second], axis=1)

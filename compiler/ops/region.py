"""Regions of an image: pooled to a common size, and chosen so that they do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple, Self

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, expect, expect_opset, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import widen
from compiler.tensor import F32, I64, Array, TensorType


class Samples(NamedTuple):
    """Points along one axis of an image: the two elements around each, and the weight of either."""

    low: Array
    high: Array
    low_weight: Array
    high_weight: Array


def samples_along(start: float, step: float, bins: int, per_bin: int, length: int) -> Samples:
    """`per_bin` evenly spread points in each of `bins` bins; those more than one element outside have no weight."""
    at = start + step * (np.arange(bins)[:, None] + (np.arange(per_bin) + 0.5) / max(per_bin, 1)).reshape(-1)
    valid = (at >= -1) & (at <= length)
    at = np.clip(at, 0, length - 1)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, length - 1)
    return Samples(low, high, (1 - (at - low)) * valid, (at - low) * valid)


@op("roi_align", onnx="RoiAlign", since=10)
class RoiAlign(Op):
    """Regions of x [N,C,H,W], averaged (or maximal) over `sampling` x `sampling` bilinear points in each bin of an
    output [R,C,*size]; He et al., arXiv:1703.06870.

    rois [R,4] are x1, y1, x2, y2 in units of 1 / scale pixels, batch_indices [R] the image of each. `half_pixel` moves
    regions by half a pixel. With sampling 0 there is about one point per pixel. As in ONNX Runtime, the maximum is
    that of the four weighted neighbours of all points.
    """

    size: tuple[int, int]
    mode: str = "avg"
    sampling: int = 0
    scale: float = 1.0
    half_pixel: bool = True

    def infer(self, x: TensorType, rois: TensorType, batch_indices: TensorType) -> TensorType:
        expect(x.rank == 4 and x.dtype.is_float and rois.dtype is x.dtype, f"needs a float image, got {x} and {rois}")
        expect(self.mode in ("avg", "max"), f"mode {self.mode!r} is not avg or max")
        expect(min(self.size) >= 1 and self.sampling >= 0, f"size {self.size} or sampling {self.sampling} is too small")
        expect(rois.rank == 2 and rois.shape[1] == 4, f"rois should be {x.dtype}[R,4], they are {rois}")
        fits = batch_indices == TensorType(I64, rois.shape[:1])
        expect(fits, f"needs an index per region of {rois}, got {batch_indices}")
        return x.with_shape((rois.shape[0], x.shape[1], *self.size))

    def evaluate(self, x: Array, rois: Array, batch_indices: Array) -> Array:
        wide = widen(x)
        y: Array = np.zeros((len(rois), x.shape[1], *self.size), wide.dtype)
        for i, roi in enumerate(widen(rois) * wide.dtype.type(self.scale) - wide.dtype.type(0.5 * self.half_pixel)):
            y[i] = self._pooled(wide[batch_indices[i]], roi)
        return y.astype(x.dtype, copy=False)

    def _pooled(self, image: Array, roi: Array) -> Array:
        rows, columns = (self._samples(roi[1 - a], roi[3 - a], self.size[a], image.shape[1 + a]) for a in (0, 1))
        per_row, per_column = len(rows.low) // self.size[0], len(columns.low) // self.size[1]
        if not per_row or not per_column:
            return np.zeros((image.shape[0], *self.size), image.dtype)
        corners = [
            image[:, at_row[:, None], at_column] * (row_weight[:, None] * column_weight).astype(image.dtype)
            for at_row, row_weight in ((rows.low, rows.low_weight), (rows.high, rows.high_weight))
            for at_column, column_weight in ((columns.low, columns.low_weight), (columns.high, columns.high_weight))
        ]
        points = np.max(corners, 0) if self.mode == "max" else np.sum(corners, 0)
        points = points.reshape(-1, self.size[0], per_row, self.size[1], per_column)
        return np.asarray(points.max((2, 4)) if self.mode == "max" else points.mean((2, 4)))

    def _samples(self, start: float, end: float, bins: int, length: int) -> Samples:
        extent = end - start if self.half_pixel else max(end - start, 1.0)
        per_bin = self.sampling or max(int(np.ceil(extent / bins)), 0)
        return samples_along(float(start), float(extent / bins), bins, per_bin, length)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        default = "half_pixel" if node.version >= 16 else "output_half_pixel"
        return cls(
            size=(node.attr("output_height", 1), node.attr("output_width", 1)),
            mode=node.attr("mode", "avg"),
            sampling=node.attr("sampling_ratio", 0),
            scale=node.attr("spatial_scale", 1.0),
            half_pixel=node.attr("coordinate_transformation_mode", default) == "half_pixel",
        )

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        if self.half_pixel:
            expect_opset(e, 16, "RoiAlign with half pixels")
        mode = "half_pixel" if self.half_pixel else "output_half_pixel"
        return e.node(
            "RoiAlign",
            *inputs,
            output_height=self.size[0],
            output_width=self.size[1],
            mode=self.mode,
            sampling_ratio=self.sampling,
            spatial_scale=self.scale,
            coordinate_transformation_mode=mode if e.opset >= 16 else None,
        )

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 4 or x.dtype is not F32 or not x.is_static or not all(x.shape):
            return None
        count = int(rng.integers(1, 4))
        corner = rng.uniform(-1, 3, (count, 2))
        rois = np.concatenate([corner, corner + rng.uniform(0.5, 4, (count, 2))], 1).astype(np.float32)
        height, width = (int(v) for v in rng.integers(1, 4, 2))
        pool = cls(
            size=(height, width),
            mode=str(rng.choice(["avg", "max"])),
            sampling=int(rng.integers(3)),
            scale=float(rng.choice([1.0, 0.5])),
            half_pixel=bool(rng.random() < 0.5),
        )
        return pool, (rois, rng.integers(0, x.dims[0], count))


@op("max_roi_pool", onnx="MaxRoiPool")
class MaxRoiPool(Op):
    """The largest element of each of size[0] x size[1] bins of regions of x [N,C,H,W]; Girshick, arXiv:1504.08083.

    rois [R,5] are the image, x1, y1, x2, y2, the last two inclusive, in units of 1 / scale pixels.
    """

    size: tuple[int, int]
    scale: float = 1.0

    def infer(self, x: TensorType, rois: TensorType) -> TensorType:
        expect(x.rank == 4 and x.dtype.is_float and rois.dtype is x.dtype, f"needs a float image, got {x} and {rois}")
        expect(rois.rank == 2 and rois.shape[1] == 5, f"rois should be {x.dtype}[R,5], they are {rois}")
        expect(min(self.size) >= 1, f"size {self.size} is too small")
        return x.with_shape((rois.shape[0], x.shape[1], *self.size))

    def evaluate(self, x: Array, rois: Array) -> Array:
        y: Array = np.zeros((len(rois), x.shape[1], *self.size), x.dtype)
        for i, (image, *corners) in enumerate(rois):
            left, top, right, bottom = (int(np.floor(float(c) * self.scale + 0.5)) for c in corners)
            rows = _bins(top, bottom, self.size[0], x.shape[2])
            columns = _bins(left, right, self.size[1], x.shape[3])
            for r, (above, below) in enumerate(rows):
                for c, (before, after) in enumerate(columns):
                    if above < below and before < after:
                        y[i, :, r, c] = x[int(image), :, above:below, before:after].max((1, 2))
        return y

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        size = node.ints("pooled_shape")
        expect(len(size) == 2, f"pooled_shape {size} should have 2 numbers")
        return cls(size=size, scale=node.attr("spatial_scale", 1.0))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("MaxRoiPool", *inputs, pooled_shape=self.size, spatial_scale=self.scale)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 4 or x.dtype is not F32 or not x.is_static or not all(x.shape):
            return None
        corner = rng.integers(0, 3, (2, 2))
        rois = np.concatenate([rng.integers(0, x.dims[0], (2, 1)), corner, corner + rng.integers(1, 4, (2, 2))], 1)
        return cls(size=(2, 3), scale=float(rng.choice([1.0, 0.5]))), (rois.astype(np.float32),)


def _bins(start: int, end: int, bins: int, length: int) -> list[tuple[int, int]]:
    """First and past-the-last element of each bin of an inclusive range, cut to the image."""
    step = np.float32(max(end - start + 1, 1)) / np.float32(bins)
    edges = np.arange(bins + 1, dtype=np.float32) * step
    low, high = (start + v.astype(int) for v in (np.floor(edges[:-1]), np.ceil(edges[1:])))
    return [(int(a), int(b)) for a, b in zip(np.clip(low, 0, length), np.clip(high, 0, length), strict=True)]


@op("non_max_suppression", onnx="NonMaxSuppression", since=11)
class NonMaxSuppression(Op):
    """Rows (image, class, box) of boxes [N,B,4] with the best scores [N,C,B], up to `limit` per image and class.

    Left out are those that overlap a better one by more than `overlap` and those whose score is not above `threshold`.
    Boxes are two opposite corners y, x, y, x, or (`centres`) centre x, y, width, height. `dim` names the number of
    rows.
    """

    limit: int
    overlap: float = 0.0
    threshold: float = -inf
    centres: bool = False
    dim: str

    def infer(self, boxes: TensorType, scores: TensorType) -> TensorType:
        expect(boxes.rank == scores.rank == 3 and boxes.shape[2] == 4, f"needs boxes [N,B,4], got {boxes}, {scores}")
        expect(boxes.dtype.is_float and scores.dtype is boxes.dtype, f"needs one float type, got {boxes} and {scores}")
        fits = boxes.shape[0] == scores.shape[0] and boxes.shape[1] == scores.shape[2]
        expect(fits, f"scores {scores} do not fit boxes {boxes}")
        return TensorType(I64, (self.dim, 3))

    def evaluate(self, boxes: Array, scores: Array) -> Array:
        rows = []
        for n, image in enumerate(widen(boxes)):
            low, high = self._corners(image)
            for c, values in enumerate(scores[n]):
                rows += [(n, c, i) for i in self._chosen(low, high, values)]
        return np.array(rows, np.int64).reshape(-1, 3)

    def _corners(self, boxes: Array) -> tuple[Array, Array]:
        first, second = boxes[:, :2], boxes[:, 2:]
        if self.centres:
            return first - second / 2, first + second / 2
        return np.minimum(first, second), np.maximum(first, second)

    def _chosen(self, low: Array, high: Array, scores: Array) -> list[int]:
        chosen: list[int] = []
        area = (high - low).prod(1)
        for i in np.argsort(-scores, kind="stable"):
            if len(chosen) >= self.limit or not scores[i] > self.threshold:
                break
            shared = np.maximum(np.minimum(high[i], high[chosen]) - np.maximum(low[i], low[chosen]), 0).prod(1)
            union = area[i] + area[chosen] - shared
            if not np.any((union > 0) & (shared > self.overlap * union)):
                chosen.append(int(i))
        return chosen

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        return cls(
            limit=int(node.scalar("", 2, 0)),
            overlap=float(node.scalar("", 3, 0.0)),
            threshold=float(node.scalar("", 4, -inf)),
            centres=bool(node.attr("center_point_box", 0)),
            dim=f"boxes({node.name})",
        )

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        limit, overlap = e.const(np.array([self.limit], np.int64)), e.const(np.array([self.overlap], np.float32))
        threshold = e.const(np.array([self.threshold], np.float32)) if self.threshold > -inf else None
        centres = int(self.centres) or None
        return e.node("NonMaxSuppression", *inputs, limit, overlap, threshold, center_point_box=centres)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 3 or x.dtype is not F32 or not x.is_static or x.shape[2] != 4:
            return None
        limit, classes = (int(v) for v in rng.integers(1, 4, 2))
        threshold = float(rng.choice([-inf, 0.0]))
        chooser = cls(limit=limit, overlap=0.3, threshold=threshold, centres=bool(rng.random() < 0.5), dim="kept")
        return chooser, (x.with_shape((x.shape[0], classes, x.shape[1])),)


__all__ = ["MaxRoiPool", "NonMaxSuppression", "RoiAlign"]

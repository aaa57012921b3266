"""Resizing, sampling, cropping and box selection, against Apple's documented examples or ONNX Runtime."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.errors import EmitError
from compiler.tensor import Array
from tests.targets.coreml_harness import Case, In, onnx_run, run

RNG = np.random.default_rng(5)
IMAGE = RNG.standard_normal((2, 3, 5, 4)).astype(np.float32)
PAIR = np.array([[[0, 1]]], np.float32)


def f(*values: float) -> Array:
    return np.array(values, np.float32)


def onnx_resize(size: tuple[int, int], mode: str, coordinates: str, nearest: str = "round_prefer_floor") -> list[Array]:
    sizes = np.array([*IMAGE.shape[:2], *size], np.int64)
    return onnx_run(
        "Resize",
        {"x": IMAGE, "roi": None, "scales": None, "sizes": sizes},
        mode=mode,
        coordinate_transformation_mode=coordinates,
        nearest_mode=nearest,
    )


def documented(mode: str, *points: float) -> Case:
    """Apple's table of sampling points between the values 0 and 1."""
    operands = {"x": In(PAIR), "target_size_height": 1, "target_size_width": len(points), "sampling_mode": mode}
    return Case("resize_bilinear", operands, lambda: [f(*points).reshape(1, 1, -1)], atol=5e-3)


DOCUMENTED = [
    documented("UNALIGN_CORNERS", 0, 0.1, 0.5, 0.9, 1),
    documented("STRICT_ALIGN_CORNERS", 0, 0.25, 0.5, 0.75, 1),
    documented("ALIGN_CORNERS", 0, 0.25, 0.5, 0.75, 1),
    documented("DEFAULT", 0, 0.4, 0.8, 1, 1),
    documented("OFFSET_CORNERS", 0.1, 0.3, 0.5, 0.7, 0.9),
    documented("UNALIGN_CORNERS", 0, 0, 1 / 3, 2 / 3, 1, 1),
    documented("STRICT_ALIGN_CORNERS", 0, 0.2, 0.4, 0.6, 0.8, 1),
    documented("DEFAULT", 0, 1 / 3, 2 / 3, 1, 1, 1),
    documented("OFFSET_CORNERS", 1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12),
    documented("ALIGN_CORNERS", 0.5),
    documented("STRICT_ALIGN_CORNERS", 0),
]
SIZES = [(7, 9), (3, 2), (5, 8)]
COORDINATES = {"STRICT_ALIGN_CORNERS": "align_corners", "UNALIGN_CORNERS": "half_pixel", "DEFAULT": "asymmetric"}
RESIZES = [
    *(
        Case(
            "resize_bilinear",
            {"x": In(IMAGE), "target_size_height": h, "target_size_width": w, "sampling_mode": mode},
            partial(onnx_resize, (h, w), "linear", coordinates),
            atol=1e-5,
        )
        for h, w in SIZES
        for mode, coordinates in COORDINATES.items()
    ),
    *(
        Case(
            "resize",
            {"x": In(IMAGE), "shape": np.array([h, w]), "resized_dims": np.uint32(2), "sampling_mode": mode},
            partial(onnx_resize, (h, w), "linear", coordinates),
            atol=1e-5,
        )
        for h, w in SIZES
        for mode, coordinates in COORDINATES.items()
    ),
    *(
        Case(
            "resize_nearest_neighbor",
            {"x": In(IMAGE), "target_size_height": h, "target_size_width": w},
            partial(onnx_resize, (h, w), "nearest", "asymmetric", "floor"),
        )
        for h, w in SIZES
    ),
    Case(
        "resize",
        {
            "x": In(f(-6, 9).reshape(1, 1, 2, 1)),
            "shape": np.array([3, 2]),
            "resized_dims": np.uint32(2),
            "interpolation_mode": "NEAREST_NEIGHBOR",
        },
        lambda: [f(-6, -6, 9, 9, 9, 9).reshape(1, 1, 3, 2)],
    ),
    Case(
        "resize",
        {"x": In(IMAGE), "shape": np.array([0, 8]), "resized_dims": np.uint32(2), "sampling_mode": "UNALIGN_CORNERS"},
        lambda: onnx_resize((5, 8), "linear", "half_pixel"),
        atol=1e-5,
    ),
    Case(
        "upsample_nearest_neighbor",
        {"x": In(IMAGE), "scale_factor_height": np.float32(2), "scale_factor_width": np.float32(1.5)},
        lambda: onnx_resize((10, 6), "nearest", "asymmetric", "floor"),
    ),
    Case(
        "upsample_bilinear",
        {"x": In(IMAGE), "scale_factor_height": 2, "scale_factor_width": 3},
        lambda: onnx_resize((10, 12), "linear", "align_corners"),
        atol=1e-5,
    ),
    *(
        Case(
            "upsample_bilinear",
            {
                "x": In(IMAGE),
                "scale_factor_height": 2,
                "scale_factor_width": 3,
                "align_corners": False,
                "half_pixel_centers": half,
            },
            partial(onnx_resize, (10, 12), "linear", coordinates),
            atol=1e-5,
        )
        for half, coordinates in ((True, "half_pixel"), (False, "asymmetric"), (None, "half_pixel"))
    ),
]
GRID = RNG.uniform(-1.6, 1.6, (2, 6, 7, 2)).astype(np.float32)


def resample(padding: str, onnx_padding: str, mode: str, align: bool) -> Case:
    operands: dict[str, Any] = {
        "x": In(IMAGE),
        "coordinates": In(GRID),
        "sampling_mode": mode,
        "padding_mode": padding,
        "padding_value": np.float32(0),
        "coordinates_mode": "normalized_minus_one_to_one",
        "align_corners": align,
    }
    return Case(
        "resample",
        operands,
        lambda: onnx_run(
            "GridSample",
            {"x": IMAGE, "g": GRID},
            mode={"bilinear": "linear"}.get(mode, mode),
            padding_mode=onnx_padding,
            align_corners=int(align),
        ),
        atol=1e-5,
    )


CORNERS = f(11, 22, 33, 44).reshape(1, 1, 2, 2)
POINTS = f(-1, -2, -3.7, -1, 0, 0, 3.5, 1.2).reshape(1, 2, 2, 2)


def apples_resample(mode: str, padding: str, value: float, coordinates: str, align: bool, *expected: float) -> Case:
    """A value of coremltools' own tests."""
    operands = {
        "x": In(CORNERS),
        "coordinates": In(POINTS),
        "sampling_mode": mode,
        "padding_mode": padding,
        "padding_value": np.float32(value),
        "coordinates_mode": coordinates,
        "align_corners": align,
    }
    return Case("resample", operands, lambda: [f(*expected).reshape(1, 1, 2, 2)], atol=1e-4)


SAMPLES = [
    *(resample("constant", "zeros", mode, align) for mode in ("bilinear", "nearest") for align in (True, False)),
    *(resample("border", "border", mode, align) for mode in ("bilinear", "nearest") for align in (True, False)),
    resample("reflection", "reflection", "bilinear", True),
    resample("symmetric", "reflection", "bilinear", False),
    apples_resample("bilinear", "constant", 6.17, "normalized_minus_one_to_one", True, 8.585, 6.17, 27.5, 6.17),
    apples_resample("nearest", "border", -1, "unnormalized", False, 11, 11, 11, 44),
    apples_resample("bilinear", "reflection", -1, "normalized_zero_to_one", True, 22, 36.3, 11, 34.1),
    apples_resample("nearest", "symmetric", -1, "normalized_zero_to_one", False, 22, 33, 11, 33),
    Case(
        "affine",
        {
            "x": In(CORNERS),
            "transform_matrix": f(-1, -2, -3.7, -1, 3.5, 1.2).reshape(1, 6),
            "output_height": 2,
            "output_width": 5,
            "sampling_mode": "bilinear",
            "padding_mode": "constant",
            "padding_value": np.float32(0),
            "coordinates_mode": "normalized_minus_one_to_one",
            "align_corners": True,
        },
        lambda: [f(10.7525, 5.94, 2.5025, 0.44, 0, 0, 0, 0, 0, 0).reshape(1, 1, 2, 5)],
        atol=1e-4,
    ),
]
SQUARE = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
INSIDE, THIRD = f(1, 1, 2, 2), f(0, 0, 0, 1 / 3, 1 / 3)


def crop(roi: Array, size: int, expected: list[float], ios: str = "iOS15", **more: Any) -> Case:
    operands = {
        "x": In(SQUARE),
        "roi": roi.reshape(1, 1, -1, 1, 1),
        "target_height": size,
        "target_width": size,
        "sampling_mode": "ALIGN_CORNERS",
        **more,
    }
    return Case("crop_resize", operands, lambda: [f(*expected).reshape(1, 1, 1, size, size)], ios, 1e-5)


CROPS = [
    crop(INSIDE, 2, [6, 7, 10, 11]),
    crop(INSIDE, 1, [8.5]),
    crop(THIRD, 2, [1, 2, 5, 6], normalized_coordinates=True),
    crop(f(2, 2, 1, 1), 2, [11, 10, 7, 6]),
    crop(f(1.5, 1.5, 1, 1), 2, [6, 7, 10, 11], box_coordinate_mode="CENTER_SIZE_WIDTH_FIRST"),
    crop(f(0.5, 0.5, 1, 1), 2, [6, 7, 10, 11], spatial_scale=np.float32(2)),
    Case(
        "crop_resize",
        {
            "x": In(SQUARE),
            "boxes": f(0.1, 0.3, 1.3, 1, 0.5, 1.8, 1, 0.3, 0, 0.4, 0.6, 0.7).reshape(3, 4),
            "box_indices": np.zeros(3, np.int32),
            "target_height": 2,
            "target_width": 2,
            "normalized_coordinates": True,
            "sampling_mode": "ALIGN_CORNERS",
            "pad_value": np.float32(10),
        },
        lambda: [f(3.1, 5.2, 10, 10, 10, 7.9, 10, 13.9, 2.2, 3.1, 9.4, 10.3).reshape(3, 1, 2, 2)],
        atol=1e-5,
    ),
]
CASES = [*DOCUMENTED, *RESIZES, *SAMPLES, *CROPS]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operation(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


def boxes_and_scores() -> tuple[Array, Array]:
    centre, size = RNG.uniform(0, 10, (2, 12, 2)), RNG.uniform(2, 6, (2, 12, 2))
    return np.concatenate([centre, size], -1).astype(np.float32), RNG.uniform(0, 1, (2, 12, 3)).astype(np.float32)


def test_suppression_is_that_of_onnx(tmp_path: Path) -> None:
    boxes, scores = boxes_and_scores()
    single = scores.max(axis=2, keepdims=True)
    (chosen,) = onnx_run(
        "NonMaxSuppression",
        {"b": boxes, "s": single.transpose(0, 2, 1), "n": np.array([12]), "iou": f(0.3), "score": f(0.4)},
        center_point_box=1,
    )
    ran = run(
        tmp_path / "m.mlpackage",
        "non_maximum_suppression",
        {
            "boxes": In(boxes),
            "scores": In(scores),
            "iou_threshold": np.float32(0.3),
            "score_threshold": np.float32(0.4),
            "max_boxes": 12,
        },
        "iOS15",
    )
    out_boxes, out_scores, index, count = ran.outputs
    for n in range(2):
        kept = chosen[chosen[:, 0] == n, 2]
        assert count[n] == len(kept)
        assert index[n].tolist() == [*kept, *[-1] * (12 - len(kept))]
        assert np.array_equal(out_boxes[n, : len(kept)], boxes[n, kept])
        assert np.array_equal(out_scores[n, : len(kept)], scores[n, kept])


def test_suppression_within_classes_and_with_the_box_axis_last(tmp_path: Path) -> None:
    boxes, scores = boxes_and_scores()
    operands = {
        "boxes": In(boxes.transpose(0, 2, 1).copy()),
        "scores": In(scores.transpose(0, 2, 1).copy()),
        "iou_threshold": np.float32(0.3),
        "max_boxes": 4,
        "per_class_suppression": True,
    }
    _, _, index = run(tmp_path / "m.mlpackage", "non_maximum_suppression", operands, "iOS17").outputs
    best, label = scores.max(2), scores.argmax(2)
    for n in range(2):
        separate = [
            onnx_run(
                "NonMaxSuppression",
                {
                    "b": boxes[n : n + 1, label[n] == k],
                    "s": best[n : n + 1, None, label[n] == k],
                    "n": np.array([12]),
                    "iou": f(0.3),
                },
                center_point_box=1,
            )[0][:, 2]
            for k in range(3)
            if np.any(label[n] == k)
        ]
        present = [k for k in range(3) if np.any(label[n] == k)]
        kept = np.concatenate([np.flatnonzero(label[n] == k)[s] for k, s in zip(present, separate, strict=True)])
        assert index[n].tolist() == sorted(kept, key=lambda b: -best[n, b])[:4]


def test_an_undocumented_sampling_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(EmitError, match="not documented"):
        run(
            tmp_path / "m.mlpackage",
            "crop_resize",
            {"x": In(SQUARE), "boxes": INSIDE.reshape(1, 4), "box_indices": [0], "sampling_mode": "UNALIGN_CORNERS"},
        )

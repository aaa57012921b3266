"""Versions of operators and the runtimes that have them, as TensorFlow Lite's own tools state them."""

from __future__ import annotations

from typing import Any

import pytest

from targets.tflite import opset
from targets.tflite.model import Tensor

IMAGE, KERNEL, ROW = (1, 8, 8, 4), (6, 3, 3, 4), (1, 8)


@pytest.mark.parametrize(
    ("code", "shapes", "dtype", "options", "version"),
    [
        ("CONV_2D", (IMAGE, KERNEL), "FLOAT32", {}, 1),
        ("CONV_2D", (IMAGE, (6, 3, 3, 2)), "FLOAT32", {}, 6),  # grouped
        ("DEPTHWISE_CONV_2D", (IMAGE, (1, 3, 3, 4)), "FLOAT32", {"DilationWFactor": 1, "DilationHFactor": 1}, 1),
        ("DEPTHWISE_CONV_2D", (IMAGE, (1, 3, 3, 4)), "FLOAT32", {"DilationWFactor": 2, "DilationHFactor": 1}, 2),
        ("TRANSPOSE_CONV", ((4,), KERNEL, IMAGE), "FLOAT32", {}, 1),
        ("TRANSPOSE_CONV", ((4,), KERNEL, IMAGE, (6,)), "FLOAT32", {}, 3),
        ("TRANSPOSE_CONV", ((4,), KERNEL, IMAGE, (6,)), "FLOAT32", {opset.ACTIVATION: opset.RELU}, 4),
        ("FULLY_CONNECTED", (ROW, (3, 8), (3,)), "FLOAT32", {}, 1),
        ("FULLY_CONNECTED", (ROW, (3, 8), (3,)), "FLOAT32", {"KeepNumDims": True}, 5),
        ("FULLY_CONNECTED", (ROW, (3, 8)), "FLOAT32", {}, 6),
        ("RESIZE_BILINEAR", (IMAGE, (2,)), "FLOAT32", {"AlignCorners": True}, 1),
        ("RESIZE_BILINEAR", (IMAGE, (2,)), "FLOAT32", {"HalfPixelCenters": True}, 3),
        ("RESIZE_NEAREST_NEIGHBOR", (IMAGE, (2,)), "FLOAT32", {}, 1),
        ("RESIZE_NEAREST_NEIGHBOR", (IMAGE, (2,)), "FLOAT32", {"AlignCorners": True}, 3),
        ("GATHER", (ROW, (2,)), "FLOAT32", {"BatchDims": 1}, 5),
        ("GATHER", (ROW, (2,)), "BOOL", {}, 3),
        ("TRANSPOSE", (ROW, (2,)), "FLOAT32", {}, 1),
        ("TRANSPOSE", ((1, 2, 3, 4, 5), (5,)), "FLOAT32", {}, 4),
        ("TRANSPOSE", ((1, 2, 3, 4, 5, 6), (6,)), "FLOAT32", {}, 6),
        ("ADD", (ROW, ROW), "INT64", {}, 4),
        ("MUL", (ROW, ROW), "INT64", {}, 5),
        ("SUB", ((1, 2, 3, 4, 5), ()), "FLOAT32", {}, 3),
        ("ABS", (ROW,), "INT32", {}, 5),
    ],
)
def test_version_for_operands(
    code: str,
    shapes: tuple[tuple[int, ...], ...],
    dtype: str,
    options: dict[str, Any],  # Any: fields of an options table
    version: int,
) -> None:
    operands = [Tensor("t", dtype, shape) for shape in shapes]
    assert opset.version(code, operands, [Tensor("y", dtype, operands[0].shape)], options) == version


@pytest.mark.parametrize(
    ("used", "runtime"),
    [
        ([], "1.15.0"),
        ([("ADD", 1), ("GELU", 1)], "2.9.0"),
        ([("ATAN2", 1), ("GELU", 1)], "2.10.0"),  # as numbers, not as text
        ([("CONV_2D", 6), ("SIGN", 1)], "2.12.0"),
        ([("FULLY_CONNECTED", 6), ("FULLY_CONNECTED", 5)], "2.1.0"),
        ([("BATCH_MATMUL", 1), opset.BEHIND], "2.15.0"),
    ],
)
def test_oldest_runtime(used: list[tuple[str, int]], runtime: str) -> None:
    assert opset.oldest_runtime(used) == runtime

"""Scales and zero points of each tensor for itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from targets.tflite.check.report import ERROR, Findings
from targets.tflite.reader import Quantization, Subgraph, Tensor

Report = Callable[[str, str], None]  # takes a code and a message
ZERO_POINTS = {
    "INT8": (-128, 127),
    "UINT8": (0, 255),
    "INT16": (0, 0),
    "INT32": (0, 0),
    "INT64": (0, 0),
    "INT4": (0, 0),
}


def check_parameters(graph: Subgraph, tensor: Tensor, found: Findings) -> None:
    """Scales are positive numbers, zero points lie in the type's range, and there are as many as the axis is long."""
    q = tensor.quantization
    if q is None or tensor.dtype not in ZERO_POINTS:
        return

    def report(code: str, text: str) -> None:
        found.add(code, ERROR, text, graph=graph, tensor=tensor)

    if q.details != "NONE":
        report("quantization-details", f"its parameters are a {q.details}; only scales and zero points are taken")
    wrong = ~(np.isfinite(q.scale) & (q.scale > 0))
    if wrong.any():
        value = float(q.scale[wrong][0])
        report("bad-scale", f"a scale is {value:g}, and has to be a positive number; calibrate the value again")
    _check_zero_points(tensor, q, report)
    if len(q.scale) > 1:
        _check_axis(tensor, q, report)


def _check_zero_points(tensor: Tensor, q: Quantization, report: Report) -> None:
    low, high = ZERO_POINTS[tensor.dtype]
    if len(q.zero_point) not in (0, 1, len(q.scale)):
        report("bad-zero-point", f"there are {len(q.zero_point)} zero points for {len(q.scale)} scales")
    outside = (q.zero_point < low) | (q.zero_point > high)
    if outside.any():
        value, allowed = int(q.zero_point[outside][0]), f"{low}" if low == high else f"in {low} to {high}"
        report("bad-zero-point", f"a zero point is {value}, and has to be {allowed} for {tensor.dtype.lower()}")
    elif len(q.scale) > 1 and (q.zero_point != 0).any():
        report("bad-zero-point", "values that are quantized per channel need the zero point 0; make them symmetric")


def _check_axis(tensor: Tensor, q: Quantization, report: Report) -> None:
    if not 0 <= q.axis < len(tensor.shape):
        report("per-axis-dimension", f"its scales belong to axis {q.axis}, and it has {len(tensor.shape)} axes")
    elif tensor.shape[q.axis] != len(q.scale):
        text = (
            f"it has {len(q.scale)} scales for axis {q.axis} of length {tensor.shape[q.axis]}; there has to be one each"
        )
        report("per-axis-count", text)

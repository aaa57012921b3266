"""Where real numbers become integers, integers real numbers, and integers integers of another scale."""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.fixed import factor, round_away, times
from targets.tflite.integer.kernel import Kernel, Node


def _quantize(node: Node) -> Array:
    if node.tensor(0).dtype == "FLOAT32":
        return node.clamped(round_away(node.value() / node.result_scale()) + np.float32(node.result_zero_point()))
    by = factor(np.float64(node.scale()) / np.float64(node.result_scale()))
    return node.clamped(times(node.shifted(), by) + node.result_zero_point())


def _dequantize(node: Node) -> Array:
    return (np.float64(node.scale()) * node.shifted()).astype(np.float32)


KERNELS = {
    "QUANTIZE": Kernel(_quantize, frozenset(("FLOAT32", "INT8", "UINT8", "INT16"))),
    "DEQUANTIZE": Kernel(_dequantize, frozenset(("INT8", "UINT8", "INT16"))),
}

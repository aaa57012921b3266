"""Arithmetic on one or two quantized operands, which broadcast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.fixed import Factor, factor, inverse_root, times
from targets.tflite.integer.kernel import INT8_16, Kernel, Node
from targets.tflite.integer.lookup import GREATEST, interpolated
from targets.tflite.integer.whole import plain

ADD_BITS = {"INT8": 20, "INT16": 15}  # to the left, before operands are brought to one scale
DIFFERENCE_BITS = 7
COMPARED_BITS = 8
ROOT_BITS = 20


def _add(node: Node) -> Array:
    left, right, scale = _aligned(node, _add_bits(node))
    return _sum(node, left + right, scale)


def _sub(node: Node) -> Array:
    left, right, scale = _aligned(node, _add_bits(node))
    return _sum(node, left - right, scale)


def _add_bits(node: Node) -> int:
    if node.is_wide and node.option("PotScaleInt16", True):
        raise node.refused("adds in 16 bits by scales that are powers of two")
    return ADD_BITS[node.tensor(0).dtype]


def _aligned(node: Node, bits: int) -> tuple[Array, Array, float]:
    """Both operands in units of 2**-bits of a scale, twice the greater one of theirs, and that scale."""
    scales = float(node.scale(0)), float(node.scale(1))
    common = 2 * max(scales)
    left, right = (times(node.shifted(i) << bits, factor(scales[i] / common)) for i in range(2))
    return left, right, common


def _sum(node: Node, total: Array, scale: float) -> Array:
    by = factor(scale / ((1 << _add_bits(node)) * float(node.result_scale())))
    if by.shift > 0:
        raise node.refused("has a result of so small a scale that the runtime shifts by a negative number of bits")
    return node.clamped(times(total, by) + node.result_zero_point())


def _squared_difference(node: Node) -> Array:
    left, right, scale = _aligned(node, DIFFERENCE_BITS)
    by = factor(scale * scale / ((1 << 2 * DIFFERENCE_BITS) * float(node.result_scale())))
    return node.clamped(times((left - right) ** 2, by) + node.result_zero_point())


def _mul(node: Node) -> Array:
    by = factor(node.scale(0) * node.scale(1) / node.result_scale())
    return node.clamped(times(node.shifted(0) * node.shifted(1), by) + node.result_zero_point())


def _maximum(node: Node) -> Array:
    return np.maximum(node.value(0), node.value(1))


def _minimum(node: Node) -> Array:
    return np.minimum(node.value(0), node.value(1))


def _comparison(compare: Callable[[Array, Array], Array]) -> Kernel:
    """Operands are compared in units of 1/256, to which each is rounded."""

    def compared(node: Node) -> Array:
        left, right = (node.value(i).astype(np.int64) for i in range(2))
        if node.tensor(0).dtype == "INT8":
            left, right = (times(node.shifted(i) << COMPARED_BITS, factor(node.scale(i))) for i in range(2))
        return compare(left, right)

    return Kernel(compared, frozenset(("INT8", "INT32", "INT64")))


def _sqrt(node: Node) -> Array:
    """Of each element in float32, truncated; negative operands are refused, as by the runtime."""
    x = node.shifted()
    if (x < 0).any():
        raise node.refused("has negative numbers to take roots of")
    root = np.sqrt(node.scale() * x.astype(np.float32))
    return node.clamped(np.trunc(root / node.result_scale()).astype(np.int64) + node.result_zero_point())


def _absolute(node: Node) -> Array:
    x = np.abs(node.shifted())
    if node.scale() != node.result_scale():
        x = times(x, factor(node.scale() / node.result_scale()))
    return node.clamped(x + node.result_zero_point())


def _negative(node: Node) -> Array:
    """The runtime changes the sign of what is stored, whatever it stands for."""
    if node.zero_point() or not node.same_parameters(node.tensor(0)):
        raise node.refused("has a zero point, or a result of another scale")
    return -node.value()


def _rsqrt(node: Node) -> Array:
    """The greatest result where the operand is 0; negative operands are refused, as by the runtime."""
    x = node.shifted()
    if (x < 0).any():
        raise node.refused("has negative numbers to take roots of")
    if node.is_wide:
        most = float(np.float32(GREATEST) * node.result_scale())
        return interpolated(
            node, lambda v: np.where(v > 0, 1 / np.sqrt(np.where(v > 0, v, 1)).astype(np.float32), most)
        )
    by = factor(1.0 / np.float64(np.sqrt(node.scale()) * node.result_scale()))
    mantissa, shift = inverse_root(x)
    root = times(np.ones_like(x), Factor(mantissa, shift + ROOT_BITS))
    result = node.clamped(times(root, Factor(by.mantissa, by.shift - ROOT_BITS)) + node.result_zero_point())
    return np.where(x == 0, node.limits()[1], result).astype(result.dtype)


def _l2_normalization(node: Node) -> Array:
    """Along the last axis; results are in units of 1/128."""
    x = node.shifted()
    mantissa, shift = inverse_root((x * x).sum(axis=-1, keepdims=True))
    return np.clip(times(x, Factor(mantissa, shift + 7)), -128, 127).astype(np.int8)


KERNELS = {
    "ADD": plain(np.add, Kernel(_add, INT8_16)),
    "SUB": plain(np.subtract, Kernel(_sub, INT8_16)),
    "MUL": plain(np.multiply, Kernel(_mul, INT8_16)),
    "SQUARED_DIFFERENCE": Kernel(_squared_difference),
    "MAXIMUM": plain(np.maximum, Kernel(_maximum, INT8_16)),
    "MINIMUM": plain(np.minimum, Kernel(_minimum, INT8_16)),
    "EQUAL": _comparison(np.equal),
    "NOT_EQUAL": _comparison(np.not_equal),
    "LESS": _comparison(np.less),
    "LESS_EQUAL": _comparison(np.less_equal),
    "GREATER": _comparison(np.greater),
    "GREATER_EQUAL": _comparison(np.greater_equal),
    "SQRT": Kernel(_sqrt, INT8_16),
    "NEG": Kernel(_negative, INT8_16),
    "ABS": Kernel(_absolute, INT8_16),
    "RSQRT": Kernel(_rsqrt, INT8_16),
    "L2_NORMALIZATION": Kernel(_l2_normalization),
}

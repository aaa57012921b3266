"""Functions that the runtime tabulates in float32: 256 entries of int8, interpolated samples of int16."""

from __future__ import annotations

from collections.abc import Callable
from math import erfc

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer import lookup
from targets.tflite.integer.fixed import round_away
from targets.tflite.integer.kernel import INT8_16, Kernel, Node


def tabulated(node: Node, function: Callable[[Array], Array]) -> Array:
    """The operand looked up in the table of a function of float64 arrays, whose values are rounded to float32."""
    if node.is_wide:
        return lookup.interpolated(node, function)
    codes = np.arange(-128, 128, dtype=np.int64)
    x = node.scale() * (codes - node.zero_point()).astype(np.float32)
    with np.errstate(over="ignore"):
        y = function(x.astype(np.float64)).astype(np.float32) * (np.float32(1) / node.result_scale())
    scaled = round_away(y) + np.float32(node.result_zero_point())
    table = np.clip(scaled, -128, 127).astype(np.int8)
    return table[node.value().astype(np.int64) + 128]


def _exp(node: Node) -> Array:
    return tabulated(node, np.exp)


def _log(node: Node) -> Array:
    """Operands up to 0 give the lowest result."""
    least = float(np.float32(np.iinfo(node.value().dtype).min - node.result_zero_point()) * node.result_scale())
    return tabulated(node, lambda x: np.where(x > 0, np.log(np.where(x > 0, x, 1)), least))


def _logistic(node: Node) -> Array:
    """With the roundings of float32 on the way."""
    if node.is_wide:
        return lookup.logistic(node)
    one = np.float32(1)
    return tabulated(node, lambda x: one / (one + np.exp(-x).astype(np.float32)))


def _tanh(node: Node) -> Array:
    return lookup.tanh(node) if node.is_wide else tabulated(node, np.tanh)


def _elu(node: Node) -> Array:
    return tabulated(node, lambda x: np.where(x < 0, np.expm1(x), x))


def _gelu(node: Node) -> Array:
    """By erfc, or by tanh where the operator asks for the approximation; with the roundings of float32 on the way."""
    if node.is_wide and node.option("Approximate", False):
        raise node.refused("tabulates a tanh of float32 for 16 bits, whose last bit depends on the C library")
    one, half = np.float32(1), np.float32(0.5)

    def by_erfc(x: Array) -> Array:
        x = x.astype(np.float32)
        return half * x * _erfc(-x * np.float32(np.sqrt(0.5))).astype(np.float32)

    def by_tanh(x: Array) -> Array:
        x = x.astype(np.float32)
        inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
        return half * x * (one + np.tanh(inner.astype(np.float64)).astype(np.float32))

    return tabulated(node, by_tanh if node.option("Approximate", False) else by_erfc)


def _erfc(x: Array) -> Array:
    return np.array([erfc(v) for v in x])


KERNELS = {
    "LOGISTIC": Kernel(_logistic, INT8_16),
    "TANH": Kernel(_tanh, INT8_16),
    "EXP": Kernel(_exp, INT8_16),
    "LOG": Kernel(_log, INT8_16),
    "ELU": Kernel(_elu),
    "GELU": Kernel(_gelu, INT8_16),
}

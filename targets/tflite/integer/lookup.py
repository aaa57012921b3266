"""Functions of 16-bit numbers, as the runtime tabulates and interpolates them.

Two kinds of tables: 513 samples over all of int16, made for an operator's scales (exp, log, gelu, ...) or once for
softmax, and 256 samples of the logistic function from 0 to 10.6, which LOGISTIC and TANH share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.fixed import Factor, factor, leading_zeros, round_away, times
from targets.tflite.integer.kernel import Node

LEAST, GREATEST = -(2**15), 2**15 - 1
STEPS = 512
STEP_BITS = 7  # of a code, below those that number the step
SIGMOID_STEPS = 24  # for each unit of the operand
SIGMOID_ENTRIES = 256
SIGMOID_SCALE = np.float64(1 / (3 * 4096))  # of the operands of LOGISTIC and TANH before the table is read
NEAR_A_POWER = np.float32(1e-3)  # how far the binary logarithm of a scale is from a whole number, to count as one
EXP_RANGE = 10.0  # of softmax: smaller exponentials than exp(-10) count as this one


class Units(NamedTuple):
    """What integers stand for."""

    scale: np.floating
    zero_point: int

    def real(self, code: int) -> np.floating:
        return self.scale * self.scale.dtype.type(code - self.zero_point)


def interpolated(node: Node, function: Callable[[Array], Array]) -> Array:
    """The operand looked up in a table of a function of float64 arrays, whose values are rounded to float32."""
    table = sampled(
        function, Units(node.scale(), node.zero_point()), Units(node.result_scale(), node.result_zero_point())
    )
    codes = node.value().astype(np.int64)
    if np.isnan(table[_step(codes)]).any() or np.isnan(table[_step(codes) + 1]).any():
        raise node.refused("has numbers whose function leaves float32, which leaves its table undefined")
    return looked_up(codes, table).astype(np.int16)


def sampled(function: Callable[[Array], Array], source: Units, result: Units) -> Array:
    """The 513 samples, in the floating type of the scales. Each is moved by half the error that interpolation makes in
    the middle of its step; NaN where that is infinite."""
    kind = source.scale.dtype.type
    first, last = source.real(LEAST), source.real(GREATEST)
    step = (last - first) / kind(STEPS)
    to_codes = kind(2**16) / (result.real(GREATEST) - result.real(LEAST))
    places = first + np.arange(STEPS + 1).astype(kind) * step

    def codes(x: Array) -> Array:
        return function(x.astype(np.float64)).astype(kind) * to_codes

    with np.errstate(over="ignore", invalid="ignore"):
        exact = codes(places)
        samples = round_away(exact)
        between = round_away((exact[1:] + samples[:-1]) / kind(2))
        error = between - round_away(codes(places[:-1] + step / kind(2)))
        samples[:-1] -= round_away(error / kind(2))
        samples[-1] = round_away(codes(np.asarray([last])))[0]
    return np.clip(samples, LEAST, GREATEST)


def looked_up(codes: Array, table: Array) -> Array:
    """Between two samples, whose difference wraps around as in 16 bits."""
    step = _step(codes)
    known = np.nan_to_num(table).astype(np.int64)
    slope = (known[step + 1] - known[step]).astype(np.int16).astype(np.int64)
    offset = codes & ((1 << STEP_BITS) - 1)
    return (known[step] + ((slope * offset + (1 << (STEP_BITS - 1))) >> STEP_BITS)).astype(np.int16).astype(np.int64)


def _step(codes: Array) -> Array:
    return (codes >> STEP_BITS) + STEPS // 2


@cache
def softmax_tables() -> tuple[Array, Array]:
    """exp over [-10, 0] and 1 / (1 + x) over [0, 1], in units of 2**-15."""
    ends = np.float64(2**16 - 1)
    unit = Units(np.float64(2.0) / ends, 0)
    return (
        sampled(np.exp, Units(np.float64(EXP_RANGE) / ends, GREATEST), unit),
        sampled(lambda x: 1 / (1 + x), Units(np.float64(1.0) / ends, LEAST), unit),
    )


def softmax_factor(node: Node) -> Factor:
    """What a unit of the operand is in units of the table of exponentials."""
    return factor(np.float64(node.scale() * np.float32(node.option("Beta", 1.0))) / (EXP_RANGE / (2**16 - 1)))


def softmax(node: Node) -> Array:
    """Along the last axis; results are in units of 2**-15."""
    exp, reciprocal = softmax_tables()
    x = node.value().astype(np.int64)
    difference = times(x - x.max(axis=-1, keepdims=True), softmax_factor(node))
    exps = looked_up(np.clip(difference + GREATEST, LEAST, GREATEST), exp)
    total = exps.sum(axis=-1, keepdims=True)
    headroom = leading_zeros(total)
    mantissa = ((total << (headroom - 1)) + (1 << 13)) >> 14
    inverse = looked_up(np.clip(mantissa - (1 << 15) - (1 << 16), LEAST, GREATEST), reciprocal)
    right = 31 - headroom
    return np.clip((exps * inverse + (np.int64(1) << (right - 1))) >> right, 0, GREATEST).astype(np.int16)


@cache
def sigmoid_table() -> Array:
    """In units of 2**-16; each entry is moved by half the error of interpolation in the middle of the step behind it,
    the last one is the greatest number."""
    places = np.arange(SIGMOID_ENTRIES) / SIGMOID_STEPS
    exact, middle, behind = (2.0**16 / (1 + np.exp(-places - d / SIGMOID_STEPS)) for d in (0.0, 0.5, 1.0))
    table = round_away(exact + (middle - (exact + behind) / 2) / 2).astype(np.int64)
    table[-1] = 2**16 - 1
    return table


def logistic(node: Node) -> Array:
    """Results are in units of 2**-15."""
    x = _table_operand(node, 0)
    y = _sigmoid(np.abs(x), 9, GREATEST << 10)
    return (np.where(x >= 0, y + (1 << 9), (1 << 25) - y + (1 << 9) - 1) >> 10).astype(np.int16)


def tanh(node: Node) -> Array:
    """By 2 * logistic(2 * x) - 1; results are in units of 2**-15."""
    x = _table_operand(node, 1)
    y = _sigmoid(np.abs(x), 8, (2**16 - 1) << 8)
    return (np.where(x >= 0, y - (1 << 23) + (1 << 7), (1 << 23) - y + (1 << 7) - 1) >> 8).astype(np.int16)


def _sigmoid(x: Array, bits: int, saturated: int) -> Array:
    """Interpolated in the table of `bits` below each place, with as many more bits of fraction."""
    table = sigmoid_table()
    place = np.minimum(x >> bits, SIGMOID_ENTRIES - 2)
    low, high = table[place], table[place + 1]
    y = (low << bits) + (x & ((1 << bits) - 1)) * (high - low)
    return np.where(x >> bits >= SIGMOID_ENTRIES - 1, saturated, y)


def _table_operand(node: Node, most_shift: int) -> Array:
    """The operand in units of 1 / (3 * 4096)."""
    by, right = operand_factor(node, most_shift)
    return (node.value().astype(np.int64) * by + ((1 << right) >> 1)) >> right


def operand_factor(node: Node, most_shift: int) -> tuple[int, int]:
    """What brings the operand to units of 1 / (3 * 4096), and by how many bits the product is shifted to the right. A
    scale that is about 2**-12 times 2**shift, up to `most_shift`, is taken for it; else it is multiplied by 15 bits of
    a mantissa."""
    log2 = np.log(node.scale()) * (np.float32(1) / np.log(np.float32(2)))
    shift = int(round_away(np.asarray(log2))) + 12
    if abs(log2 - np.float32(shift - 12)) < NEAR_A_POWER and 0 <= shift <= most_shift:
        return 3 << shift, 0
    by, right = np.float64(node.scale()) / SIGMOID_SCALE, 0
    while by <= GREATEST / 2 and right <= 30:
        by, right = by * 2, right + 1
    if by >= 2**16:
        raise node.refused("has a scale whose products overflow 32 bits, which leaves their value undefined")
    return int(by), right

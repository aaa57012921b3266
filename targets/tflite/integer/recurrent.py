"""The fully quantized LSTM: int8 activations and weights, gates and cell state in 16 bits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.exponential import logistic, tanh
from targets.tflite.integer.fixed import Factor, factor, rounded_shift, saturated, times
from targets.tflite.integer.kernel import INT8, Kernel, Node

INPUT_WEIGHTS, RECURRENT_WEIGHTS, BIASES = (1, 2, 3, 4), (5, 6, 7, 8), (12, 13, 14, 15)  # input, forget, cell, output
OUTPUT_STATE, CELL_STATE = 18, 19
EXTENSIONS = (9, 10, 11, 16, 17, 20, 21, 22, 23)  # peepholes, projection, normalized layers
GATE_SCALE = np.float32(2.0**-12)  # of a gate before its activation
GATE_BITS = 3
HIDDEN = 4  # the intermediate tensor that has the parameters of the output


class Gate(NamedTuple):
    """What one gate adds up: products of the input and of the output state, each requantized by itself."""

    weights: Array
    offset: Array
    by: Factor
    recurrent: Array
    recurrent_offset: Array
    recurrent_by: Factor

    @classmethod
    def of(cls, node: Node, gate: int) -> Gate:
        w, r = INPUT_WEIGHTS[gate], RECURRENT_WEIGHTS[gate]
        weights, recurrent = node.value(w).astype(np.int64), node.value(r).astype(np.int64)
        return cls(
            weights.T,
            node.value(BIASES[gate]).astype(np.int64) - node.zero_point(0) * weights.sum(axis=1),
            factor(node.scale(w) * node.scale(0) / GATE_SCALE),
            recurrent.T,
            -node.zero_point(OUTPUT_STATE) * recurrent.sum(axis=1),
            factor(node.scale(r) * node.scale(OUTPUT_STATE) / GATE_SCALE),
        )

    def sum(self, x: Array, state: Array) -> Array:
        total = saturated(times(x @ self.weights + self.offset, self.by), 16)
        return saturated(times(state @ self.recurrent + self.recurrent_offset, self.recurrent_by) + total, 16)


def _sequence_lstm(node: Node) -> Array:
    """Input [batch, time, features], or [time, batch, features]; peepholes, projections, coupled gates and layer
    normalization are refused."""
    if any(map(node.has, EXTENSIONS)) or not all(map(node.has, (*INPUT_WEIGHTS, *RECURRENT_WEIGHTS, *BIASES))):
        raise node.refused("has peepholes, a projection, coupled gates or layer normalization")
    gates = [Gate.of(node, i) for i in range(4)]
    cell_scale = node.scale(CELL_STATE)
    cell_bits = round(float(np.log2(cell_scale))) + 15  # integer bits of the cell state
    limit = node.option("CellClip", 0.0) / cell_scale
    hidden = node.intermediate(HIDDEN)
    by = factor(np.float32(2.0**-30) / node.scale_of(hidden))
    steps = node.value(0).astype(np.int64)
    steps = steps if node.option("TimeMajor", False) else steps.swapaxes(0, 1)
    state, cell = (node.value(i).astype(np.int64) for i in (OUTPUT_STATE, CELL_STATE))
    results = []
    for x in steps:
        enter, forget, update, leave = (gate.sum(x, state) for gate in gates)
        enter, forget, leave = (logistic(v, GATE_BITS, 16) for v in (enter, forget, leave))
        kept = rounded_shift(forget * cell, 15)
        cell = saturated(kept + rounded_shift(enter * tanh(update, GATE_BITS, 16), 15 + cell_bits), 16)
        if limit > 0:
            bound = min(int(limit), 2**15 - 1)
            cell = np.clip(cell, -bound, bound)
        state = times(leave * tanh(cell, cell_bits, 16), by) + node.zero_point_of(hidden)
        state = np.clip(state, -128, 127)
        results.append(state.astype(np.int8))
    node.states[node.tensor(OUTPUT_STATE).number] = state.astype(np.int8)
    node.states[node.tensor(CELL_STATE).number] = cell.astype(np.int16)
    return np.stack(results, axis=0 if node.option("TimeMajor", False) else 1)


KERNELS = {"UNIDIRECTIONAL_SEQUENCE_LSTM": Kernel(_sequence_lstm, INT8)}

"""The fully quantized LSTM. Each run begins with its first states, as the layers of ONNX do."""

from __future__ import annotations

import numpy as np

from codegen.neon.int8_lstm import Lstm
from targets.neon.int8.program import IntegerProgram
from targets.neon.int8.table import lowers
from targets.tflite.integer.fixed import factor
from targets.tflite.integer.kernel import Node, first_zero_point
from targets.tflite.integer.recurrent import (
    BIASES,
    CELL_STATE,
    EXTENSIONS,
    GATE_SCALE,
    HIDDEN,
    INPUT_WEIGHTS,
    OUTPUT_STATE,
    RECURRENT_WEIGHTS,
)


@lowers("UNIDIRECTIONAL_SEQUENCE_LSTM")
def _lstm(p: IntegerProgram, node: Node) -> None:
    needed = (*INPUT_WEIGHTS, *RECURRENT_WEIGHTS, *BIASES)
    if any(map(node.has, EXTENSIONS)) or not all(map(node.has, needed)):
        raise node.refused("has peepholes, a projection, coupled gates or layer normalization")
    if any(node.tensor(i).number not in p.constants for i in needed):
        raise node.refused("has weights that are computed")
    if first_zero_point(node.tensor(OUTPUT_STATE)) != node.zero_point_of(node.intermediate(HIDDEN)):
        raise node.refused("has a state of another zero point than its results")
    x, y, cell = node.tensor(0), node.result(), node.tensor(CELL_STATE)
    w = np.stack([node.value(i) for i in INPUT_WEIGHTS])
    r = np.stack([node.value(i) for i in RECURRENT_WEIGHTS])
    biases = np.stack([node.value(i) for i in BIASES]).astype(np.int64)
    sums = biases - node.zero_point(0) * w.astype(np.int64).sum(axis=2)
    again = -node.zero_point(OUTPUT_STATE) * r.astype(np.int64).sum(axis=2)
    pairs = [factor(node.scale(i) * node.scale(0) / GATE_SCALE) for i in INPUT_WEIGHTS]
    pairs += [factor(node.scale(i) * node.scale(OUTPUT_STATE) / GATE_SCALE) for i in RECURRENT_WEIGHTS]
    shown = factor(np.float32(2.0**-30) / node.scale_of(node.intermediate(HIDDEN)))
    limit = node.option("CellClip", 0.0) / node.scale_of(cell)
    bits = round(float(np.log2(node.scale_of(cell)))) + 15
    numbers = [int(v) for f in pairs for v in (f.mantissa, f.shift)]
    numbers += [bits, min(int(limit), 2**15 - 1) if limit > 0 else 0, int(shown.mantissa), int(shown.shift)]
    numbers.append(node.zero_point_of(node.intermediate(HIDDEN)))
    tables = [p.constant(np.asarray(t, np.int32), "sums") for t in (sums, again, numbers)]
    weights = [p.constant(t, name) for t, name in ((w, "input_weights"), (r, "recurrent_weights"))]
    units, features = w.shape[1:]
    is_time_major = bool(node.option("TimeMajor", False))
    steps, lines = x.shape[:2] if is_time_major else x.shape[1::-1]
    distances = [d for n in (features, units) for d in ((n, lines * n) if is_time_major else (steps * n, n))]
    scratch = p.scratch(2 * 6 * units, "states")
    places = [p.at(x), *weights, *tables, scratch, p.result(y)]
    title = f"LSTM of {steps} steps, {features} to {units} features"
    p.call(node, Lstm(), *places, lines, steps, features, units, *distances, title=title)

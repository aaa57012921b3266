"""Faults to plant in the valid network of `tflite_files`, each with the code that has to be found and who is guilty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from targets.tflite.check import TARGETS, CheckReport, check
from targets.tflite.schema import schema
from tests.targets.tflite_files import FileBuilder

Edit = Callable[[FileBuilder], None]
CONV, DEPTHWISE, ADD, MAX, MEAN, CONCAT, TANH, RESHAPE, DENSE, SOFTMAX = range(10)
PLACEMENT = {"op-unsupported", "element-type", "constraint", "after-break"}  # an operator stays on the CPU


def checked(b: FileBuilder, folder: Path, target: str = "nnapi", strict: bool = False) -> CheckReport:
    """What the checker says of the file."""
    return check(b.write(folder / "m.tflite"), target, strict)


def quantization(b: FileBuilder, name: str) -> Any:  # Any: the generated schema classes have no types
    return b.named(name).quantization


def scaled(name: str, *scales: float) -> Edit:
    def edit(b: FileBuilder) -> None:
        q = quantization(b, name)
        q.scale, q.zeroPoint = list(scales), q.zeroPoint[: len(scales)]

    return edit


def zero(name: str, *values: int) -> Edit:
    def edit(b: FileBuilder) -> None:
        quantization(b, name).zeroPoint = list(values)

    return edit


def unscaled(name: str) -> Edit:
    def edit(b: FileBuilder) -> None:
        b.named(name).quantization = None

    return edit


def typed(name: str, dtype: str) -> Edit:
    def edit(b: FileBuilder) -> None:
        b.named(name).type = getattr(schema().TensorType, dtype)

    return edit


def per_axis(name: str, count: int, axis: int, scale: float) -> Edit:
    def edit(b: FileBuilder) -> None:
        q = quantization(b, name)
        q.scale, q.zeroPoint, q.quantizedDimension = [scale] * count, [0] * count, axis

    return edit


def dimension(name: str, axis: int) -> Edit:
    def edit(b: FileBuilder) -> None:
        quantization(b, name).quantizedDimension = axis

    return edit


def version(place: int, number: int) -> Edit:
    def edit(b: FileBuilder) -> None:
        b.code(place).version = number

    return edit


def custom(b: FileBuilder) -> None:
    b.code(TANH).builtinCode = b.code(TANH).deprecatedBuiltinCode = schema().BuiltinOperator.CUSTOM
    b.code(TANH).customCode = "MyTanh"


def unknown(b: FileBuilder) -> None:
    b.code(TANH).builtinCode, b.code(TANH).deprecatedBuiltinCode = 9999, 127


def dynamic(b: FileBuilder) -> None:
    b.named("x").shapeSignature = [-1, 8, 8, 4]


def rank_5(b: FileBuilder) -> None:
    b.named("tanh").shape = [1, 4, 1, 4, 8]


def second_subgraph(b: FileBuilder) -> None:
    b.model.subgraphs.append(int8_network_graph(b))


def int8_network_graph(b: FileBuilder) -> Any:  # Any: as above
    graph = schema().SubGraphT()
    graph.name, graph.tensors, graph.operators, graph.inputs, graph.outputs = "other", [b.named("x")], [], [0], [0]
    return graph


def lowest_weight(b: FileBuilder) -> None:
    b.model.buffers[b.named("conv/weights").buffer].data[17] = 0x80


def cut_weights(b: FileBuilder) -> None:
    buffer = b.model.buffers[b.named("conv/weights").buffer]
    buffer.data = buffer.data[:-1]


def between(b: FileBuilder, place: int, *steps: tuple[str, str, float | None, int]) -> None:
    """Put operators (code, element type and parameters of the result) on the first operand of the one at a place."""
    reader = b.graph.operators[place]
    source = reader.inputs[0]
    shape = tuple(b.graph.tensors[source].shape)
    for i, (code, dtype, scale, zero_point) in enumerate(steps):
        result = b.tensor(f"extra{i}", shape, dtype, scale, zero_point)
        b.operator(code, [source], [result], 2 if dtype == "INT8" and code != "QUANTIZE" else 1, place + i)
        source = result
    reader.inputs = [source, *reader.inputs[1:]]


def float_island(b: FileBuilder) -> None:
    between(b, TANH, ("DEQUANTIZE", "FLOAT32", None, 0), ("EXP", "FLOAT32", None, 0), ("QUANTIZE", "INT8", 0.3, -1))


def round_trip(b: FileBuilder) -> None:
    between(b, TANH, ("DEQUANTIZE", "FLOAT32", None, 0), ("QUANTIZE", "INT8", 0.4, -1))


def idle_quantize(b: FileBuilder) -> None:
    between(b, TANH, ("QUANTIZE", "INT8", 0.3, -1))


def twice_quantized(b: FileBuilder) -> None:
    between(b, TANH, ("QUANTIZE", "INT8", 0.4, -1), ("QUANTIZE", "INT8", 0.5, -1))


def float_input(b: FileBuilder) -> None:
    between(b, CONV, ("QUANTIZE", "INT8", 0.1, 3))
    b.named("x").type, b.named("x").quantization = schema().TensorType.FLOAT32, None


def unruled(b: FileBuilder) -> None:
    between(b, TANH, ("COS", "INT8", 0.3, -1))


def reversed_order(b: FileBuilder) -> None:
    b.graph.operators[SOFTMAX], b.graph.operators[DENSE] = b.graph.operators[DENSE], b.graph.operators[SOFTMAX]


def computed_twice(b: FileBuilder) -> None:
    b.graph.operators[MEAN].outputs = b.graph.operators[MAX].outputs


def constant_result(b: FileBuilder) -> None:
    stored = b.tensor("stored", (1, 4, 4, 8), data=np.zeros((1, 4, 4, 8)))
    b.named("tanh").buffer = b.graph.tensors[stored].buffer


def blockwise(b: FileBuilder) -> None:
    q, s = quantization(b, "dense/weights"), schema()
    q.detailsType, q.details = s.QuantizationDetails.CustomQuantization, s.CustomQuantizationT()
    q.details.custom = [1, 2, 3]


def logistic(b: FileBuilder) -> None:
    b.code(TANH).builtinCode = b.code(TANH).deprecatedBuiltinCode = schema().BuiltinOperator.LOGISTIC


def normalised(b: FileBuilder) -> None:
    code = schema().BuiltinOperator.L2_NORMALIZATION
    b.code(TANH).builtinCode = b.code(TANH).deprecatedBuiltinCode = code
    quantization(b, "tanh").zeroPoint = [1]
    quantization(b, "flat").zeroPoint = [1]


def slack_tanh(b: FileBuilder) -> None:
    for name in ("tanh", "flat"):
        scaled(name, 0.01)(b)


def two_rows(b: FileBuilder) -> None:
    b.named("dense").shape = b.named("softmax").shape = [2, 5]


FAULTS: dict[str, tuple[Edit, str, str | int | None]] = {
    # what is done, the code, the guilty tensor or operator
    "bias scale": (scaled("dense/bias", 0.001), "bias-scale", "dense/bias"),
    "bias scale of one channel": (scaled("conv/bias", 0.001, 0.002, 0.003, 0.005), "bias-scale", "conv/bias"),
    "bias scale per tensor": (scaled("conv/bias", 0.001), "bias-scale", "conv/bias"),
    "bias zero point": (zero("dense/bias", 1), "bad-zero-point", "dense/bias"),
    "bias type": (typed("dense/bias", "INT16"), "dtype", "dense/bias"),
    "bias without scale": (unscaled("dense/bias"), "missing-scale", "dense/bias"),
    "float bias": (typed("dense/bias", "FLOAT32"), "dtype", "dense/bias"),
    "value without scale": (unscaled("depthwise"), "missing-scale", "depthwise"),
    "weights without scale": (unscaled("conv/weights"), "missing-scale", "conv/weights"),
    "no scales in the table": (scaled("sum"), "missing-scale", "sum"),
    "scale 0": (scaled("sum", 0.0), "bad-scale", "sum"),
    "scale below 0": (scaled("sum", -0.1), "bad-scale", "sum"),
    "scale NaN": (scaled("sum", float("nan")), "bad-scale", "sum"),
    "scale infinite": (scaled("sum", float("inf")), "bad-scale", "sum"),
    "weight scale NaN": (scaled("conv/weights", 0.01, float("nan"), 0.03, 0.04), "bad-scale", "conv/weights"),
    "zero point above": (zero("sum", 200), "bad-zero-point", "sum"),
    "zero point below": (zero("sum", -129), "bad-zero-point", "sum"),
    "too many zero points": (zero("sum", -1, -1), "bad-zero-point", "sum"),
    "weight zero point": (zero("dense/weights", 3), "weight-zero-point", "dense/weights"),
    "weight zero point of a channel": (zero("conv/weights", 0, 0, 1, 0), "bad-zero-point", "conv/weights"),
    "value per channel": (per_axis("sum", 4, 3, 0.3), "per-axis", "sum"),
    "input per channel": (per_axis("x", 4, 3, 0.1), "per-axis", "x"),
    "axis of weights": (dimension("conv/weights", 3), "per-axis-dimension", "conv/weights"),
    "axis of depthwise weights": (dimension("depthwise/weights", 0), "per-axis-dimension", "depthwise/weights"),
    "weights per tensor": (per_axis("depthwise/weights", 1, 3, 0.05), "bias-scale", "depthwise/bias"),
    "axis beyond the shape": (dimension("conv/weights", 4), "per-axis-dimension", "conv/weights"),
    "axis of another length": (dimension("conv/weights", 1), "per-axis-count", "conv/weights"),
    "lowest weight": (lowest_weight, "weight-range", "conv/weights"),
    "weights cut short": (cut_weights, "data-size", "conv/weights"),
    "weights of another type": (typed("conv/weights", "UINT8"), "dtype", "conv/weights"),
    "details of quantization": (blockwise, "quantization-details", "dense/weights"),
    "softmax scale": (scaled("softmax", 1 / 255), "fixed-output", "softmax"),
    "softmax zero point": (zero("softmax", 0), "fixed-output", "softmax"),
    "tanh scale": (slack_tanh, "fixed-output", "tanh"),
    "logistic": (logistic, "fixed-output", "tanh"),
    "l2 norm zero point": (normalised, "fixed-output", "tanh"),
    "unequal concat": (scaled("max", 0.31), "unequal-scales", "max"),
    "unequal concat zero point": (zero("mean", 0), "unequal-scales", "mean"),
    "concat off by a rounding": (scaled("max", 0.3 * (1 + 5e-7)), "unequal-scales", "max"),
    "unequal reshape": (scaled("flat", 1 / 64), "unequal-scales", "tanh"),
    "int16": (typed("sum", "INT16"), "dtype", "sum"),
    "uint8 beside int8": (typed("max", "UINT8"), "dtype", "max"),
    "float island": (float_island, "float-island", TANH + 1),
    "there and back": (round_trip, "quantize-island", TANH),
    "idle quantize": (idle_quantize, "quantize-island", TANH),
    "two quantizes": (twice_quantized, "quantize-island", TANH + 1),
    "operator without a rule": (unruled, "no-int8-rule", TANH),
    "custom operator": (custom, "custom-op", TANH),
    "unknown operator": (unknown, "unknown-op", TANH),
    "unknown version": (version(CONV, 99), "version", CONV),
    "version before int8": (version(CONV, 1), "version-low", CONV),
    "dynamic shape": (dynamic, "dynamic-shape", "x"),
    "rank 5": (rank_5, "rank", "tanh"),
    "two subgraphs": (second_subgraph, "subgraphs", None),
    "order": (reversed_order, "order", DENSE),
    "computed constant": (constant_result, "constant-result", "tanh"),
    "computed twice": (computed_twice, "order", MEAN),
}
# Codes that are no errors. What the compiler of the Edge TPU knows of versions is not documented.
WARNINGS = {("version", "edgetpu"), *((code, t) for code in ("version-low", "constant-result") for t in TARGETS)}
# What a fault is bound to bring besides, since it is true as well.
FOLLOWS = {
    "bias type": {"data-size"},
    "weight zero point of a channel": {"weight-zero-point"},
    "scale 0": {"unequal-scales"},
    "scale below 0": {"unequal-scales"},
    "scale NaN": {"unequal-scales"},
    "scale infinite": {"unequal-scales"},
    "weight scale NaN": {"bias-scale"},
    "zero point above": {"unequal-scales"},
    "zero point below": {"unequal-scales"},
    "axis of depthwise weights": {"per-axis-count"},
    "axis of another length": {"per-axis-dimension"},
    "tanh scale": {"bias-scale"},
    "unequal reshape": {"bias-scale"},
    "int16": {"bad-zero-point"},
    "uint8 beside int8": {"bad-zero-point"},
}

"""Single rules of the checker: each condition of a device for and against, uint8, plain integers, LSTM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from targets.tflite.check import check
from targets.tflite.check.conditions import TESTS, holds
from targets.tflite.check.node import Node, nodes
from targets.tflite.reader import read
from tests.targets.tflite_faults import checked
from tests.targets.tflite_files import FileBuilder, int8_network

Operand = tuple[tuple[int, ...], str, float | None, int] | list[int]  # shape, type, scale, zero point; or a constant


def single(folder: Path, code: str, inputs: list[Operand], results: list[Operand], **fields: Any) -> Node:
    """A file of one operator, read back."""
    b = FileBuilder()

    def tensor(name: str, operand: Operand) -> int:
        if isinstance(operand, list):
            return b.tensor(name, (len(operand),), "INT32", data=np.array(operand))
        shape, dtype, scale, zero_point = operand
        return b.tensor(name, shape, dtype, scale, zero_point)

    sources = [tensor(f"in{i}", operand) for i, operand in enumerate(inputs)]
    made = [tensor(f"out{i}", operand) for i, operand in enumerate(results)]
    b.operator(code, sources, made, **fields)
    b.graph.inputs, b.graph.outputs = sources[:1], made
    return next(nodes(read(b.write(folder / "one.tflite")).subgraphs[0]))


def int8(*shape: int, scale: float | None = 0.5, zero_point: int = 0) -> Operand:
    return shape, "INT8", scale, zero_point


def f32(*shape: int) -> Operand:
    return shape, "FLOAT32", None, 0


def i32(*shape: int) -> Operand:
    return shape, "INT32", None, 0


IMAGE = int8(1, 8, 8, 4)
CASES: dict[str, tuple[dict[str, Any], tuple[Any, ...], tuple[Any, ...]]] = {
    # operands of the test; an operator (code, inputs, results, fields) for which it holds; one for which it does not
    "fused": (
        {},
        ("ADD", [IMAGE, IMAGE], [IMAGE], {"fusedActivationFunction": 3}),
        ("ADD", [IMAGE, IMAGE], [IMAGE], {}),
    ),
    "int32_fused": (
        {},
        ("ADD", [i32(2), i32(2)], [i32(2)], {"fusedActivationFunction": 1}),
        ("ADD", [IMAGE, IMAGE], [IMAGE], {"fusedActivationFunction": 1}),
    ),
    "option_set": (
        {"options": ["AlignCorners", "HalfPixelCenters"]},
        ("RESIZE_BILINEAR", [IMAGE, [4, 4]], [IMAGE], {"halfPixelCenters": True}),
        ("RESIZE_BILINEAR", [IMAGE, [4, 4]], [IMAGE], {}),
    ),
    "option_unset": (
        {"option": "SqueezeDims"},
        ("SQUEEZE", [int8(1, 4)], [int8(4)], {}),
        ("SQUEEZE", [int8(1, 4)], [int8(4)], {"squeezeDims": [0]}),
    ),
    "window_above": (
        {"most": 256},
        ("AVERAGE_POOL_2D", [IMAGE], [IMAGE], {"filterWidth": 17, "filterHeight": 16}),
        ("AVERAGE_POOL_2D", [IMAGE], [IMAGE], {"filterWidth": 16, "filterHeight": 16}),
    ),
    "dilated": (
        {},
        ("CONV_2D", [IMAGE, IMAGE], [IMAGE], {"dilationHFactor": 2}),
        ("CONV_2D", [IMAGE, IMAGE], [IMAGE], {}),
    ),
    "dilations_differ": (
        {},
        ("CONV_2D", [IMAGE, IMAGE], [IMAGE], {"dilationHFactor": 2}),
        ("CONV_2D", [IMAGE, IMAGE], [IMAGE], {"dilationHFactor": 2, "dilationWFactor": 2}),
    ),
    "axis_is_last": (
        {},
        ("PACK", [int8(2, 3), int8(2, 3)], [int8(2, 3, 2)], {"axis": 2}),
        ("PACK", [int8(2, 3), int8(2, 3)], [int8(2, 2, 3)], {"axis": 1}),
    ),
    "axis_is_batch": (
        {},
        ("SPLIT", [[0], int8(2, 3)], [int8(1, 3), int8(1, 3)], {}),
        ("SPLIT", [[1], int8(2, 4)], [int8(2, 2), int8(2, 2)], {}),
    ),
    "inputs_other_than": (
        {"counts": [3]},
        ("CONV_2D", [IMAGE, IMAGE], [IMAGE], {}),
        ("CONV_2D", [IMAGE, IMAGE, [1, 2, 3, 4]], [IMAGE], {}),
    ),
    "not_constant": (
        {"at": [1]},
        ("RESHAPE", [IMAGE, i32(1)], [int8(256)], {}),
        ("RESHAPE", [IMAGE, [256]], [int8(256)], {}),
    ),
    "constant_of": (
        {"at": 1, "types": ["INT32"]},
        ("RESHAPE", [IMAGE, [256]], [int8(256)], {}),
        ("RESHAPE", [IMAGE, i32(1)], [int8(256)], {}),
    ),
    "dtype_is": (
        {"at": 0, "types": ["INT8"], "of": "output"},
        ("QUANTIZE", [f32(2)], [int8(2)], {}),
        ("DEQUANTIZE", [int8(2)], [f32(2)], {}),
    ),
    "dtype_is_not": (
        {"at": 1, "types": ["INT32"]},
        ("GATHER", [IMAGE, f32(1)], [IMAGE], {}),
        ("GATHER", [IMAGE, i32(1)], [IMAGE], {}),
    ),
    "hybrid": (
        {},
        ("FULLY_CONNECTED", [f32(1, 4), int8(2, 4)], [f32(1, 2)], {}),
        ("FULLY_CONNECTED", [int8(1, 4), int8(2, 4)], [int8(1, 2)], {}),
    ),
    "scalar_not_constant": (
        {},
        ("MAXIMUM", [int8(2), int8()], [int8(2)], {}),
        ("MAXIMUM", [int8(2), [3]], [int8(2)], {}),
    ),
    "nonzero": (
        {"at": 2},
        ("BATCH_TO_SPACE_ND", [IMAGE, [1, 1], [0, 0, 1, 0]], [IMAGE], {}),
        ("BATCH_TO_SPACE_ND", [IMAGE, [1, 1], [0, 0, 0, 0]], [IMAGE], {}),
    ),
    "grouped": (
        {},
        ("CONV_2D", [IMAGE, int8(4, 3, 3, 2)], [IMAGE], {}),
        ("CONV_2D", [IMAGE, int8(4, 3, 3, 4)], [IMAGE], {}),
    ),
    "input_rank_below": (
        {"least": 4},
        ("L2_NORMALIZATION", [int8(2, 3)], [int8(2, 3)], {}),
        ("L2_NORMALIZATION", [IMAGE], [IMAGE], {}),
    ),
    "input_rank_is_not": (
        {"ranks": [2, 4]},
        ("SOFTMAX", [int8(1, 2, 3)], [int8(1, 2, 3)], {}),
        ("SOFTMAX", [int8(2, 3)], [int8(2, 3)], {}),
    ),
    "output_rank_below": (
        {"least": 1},
        ("MEAN", [int8(3), [0]], [int8()], {}),
        ("MEAN", [int8(2, 3), [0]], [int8(3)], {}),
    ),
    "zero_dim": ({}, ("PAD", [int8(0, 3)], [int8(2, 3)], {}), ("PAD", [int8(1, 3)], [int8(2, 3)], {})),
    "shapes_differ": (
        {"at": [0, 1]},
        ("SELECT", [int8(1), int8(3), int8(3)], [int8(3)], {}),
        ("SELECT", [int8(3), int8(3), int8(3)], [int8(3)], {}),
    ),
    "batches_differ": (
        {},
        ("BATCH_MATMUL", [int8(2, 3, 4), int8(1, 4, 5)], [int8(2, 3, 5)], {}),
        ("BATCH_MATMUL", [int8(2, 3, 4), int8(2, 4, 5)], [int8(2, 3, 5)], {}),
    ),
    "not_one_row": (
        {"of": "output"},
        ("FULLY_CONNECTED", [int8(2, 4), int8(3, 4)], [int8(2, 3)], {}),
        ("FULLY_CONNECTED", [int8(1, 4), int8(3, 4)], [int8(1, 3)], {}),
    ),
    "not_three_inner": (
        {},
        ("RESIZE_BILINEAR", [int8(2, 8, 8, 4), [4, 4]], [int8(2, 4, 4, 4)], {}),
        ("RESIZE_BILINEAR", [IMAGE, [4, 4]], [int8(1, 4, 4, 4)], {}),
    ),
    "elements_above": (
        {"most": 16000},
        ("SOFTMAX", [int8(1, 16001)], [int8(1, 16001)], {}),
        ("SOFTMAX", [int8(1, 16000)], [int8(1, 16000)], {}),
    ),
    "reduces": (
        {"axis": "channels", "multiple": 4},
        ("MEAN", [int8(1, 2, 2, 6), [-1]], [int8(1, 2, 2)], {}),
        ("MEAN", [int8(1, 2, 2, 8), [3]], [int8(1, 2, 2)], {}),
    ),
    "pads_batch": (
        {},
        ("PAD", [IMAGE, [1, 0, 0, 0, 0, 0, 0, 0]], [IMAGE], {}),
        ("PAD", [IMAGE, [0, 0, 1, 1, 1, 1, 0, 0]], [IMAGE], {}),
    ),
    "strides_above_one": (
        {},
        ("STRIDED_SLICE", [int8(8), [0], [8], [2]], [int8(4)], {}),
        ("STRIDED_SLICE", [int8(8), [0], [8], [1]], [int8(8)], {}),
    ),
    "constant_concat": (
        {},
        ("CONCATENATION", [int8(2), [0, 7]], [int8(4)], {}),
        ("CONCATENATION", [int8(2), [0, 0]], [int8(4)], {}),
    ),
    "scale_product_reaches_output": (
        {},
        ("CONV_2D", [IMAGE, IMAGE], [int8(1, 8, 8, 4, scale=0.25)], {}),
        ("CONV_2D", [IMAGE, IMAGE], [int8(1, 8, 8, 4, scale=0.26)], {}),
    ),
    "unequal_scales": (
        {"types": ["INT8"]},
        ("CONCATENATION", [int8(2), int8(2, zero_point=1)], [int8(4)], {}),
        ("CONCATENATION", [int8(2), int8(2)], [int8(4)], {}),
    ),
    "zero_point_is_not": (
        {"at": 0, "value": 0, "types": ["INT8"]},
        ("DEQUANTIZE", [int8(2, zero_point=1)], [f32(2)], {}),
        ("DEQUANTIZE", [int8(2)], [f32(2)], {}),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_condition_for_and_against(name: str, tmp_path: Path) -> None:
    operands, yes, no = CASES[name]
    for (code, inputs, results, fields), expected in ((yes, True), (no, False)):
        assert (
            holds({"test": name, "says": ""} | operands, single(tmp_path, code, inputs, results, **fields)) is expected
        )


def test_every_condition_has_its_case() -> None:
    assert set(TESTS) - set(CASES) == {"per_axis"}  # in the planted faults


# -- uint8 and plain integers -------------------------------------------------------------------------------


@pytest.mark.parametrize(("zero_point", "codes"), [(0, []), (-128, ["bad-zero-point", "fixed-output"])])
def test_zero_points_of_uint8_are_shifted(zero_point: int, codes: list[str], tmp_path: Path) -> None:
    b = FileBuilder()
    x, y = (b.tensor("x", (1, 4), "UINT8", 0.1, 128), b.tensor("y", (1, 4), "UINT8", 1 / 256, zero_point))
    b.operator("SOFTMAX", [x], [y], beta=1.0)
    b.graph.inputs, b.graph.outputs = [x], [y]
    assert sorted(f.code for f in checked(b, tmp_path).findings) == codes


def test_asymmetric_weights_of_uint8_are_fine(tmp_path: Path) -> None:
    b = FileBuilder()
    x = b.tensor("x", (1, 4), "UINT8", 0.5, 128)
    w = b.tensor("w", (2, 4), "UINT8", 0.25, 100, data=np.full((2, 4), 0x80))
    bias = b.tensor("b", (2,), "INT32", 0.125, data=np.zeros(2))
    y = b.tensor("y", (1, 2), "UINT8", 1.0, 3)
    b.operator("FULLY_CONNECTED", [x, w, bias], [y])
    b.graph.inputs, b.graph.outputs = [x], [y]
    assert checked(b, tmp_path).findings == ()


def test_integers_that_stand_for_themselves(tmp_path: Path) -> None:
    """Sums of indices beside a quantized graph have no scales and need none."""
    b = int8_network()
    i, j, k = (b.tensor(n, (3,), "INT32") for n in "ijk")
    b.operator("ADD", [i, j], [k])
    b.graph.inputs, b.graph.outputs = [*b.graph.inputs, i, j], [*b.graph.outputs, k]
    assert checked(b, tmp_path).findings == ()


# -- LSTM ---------------------------------------------------------------------------------------------------


PRODUCT = float(np.float32(0.1) * np.float32(0.02))


def lstm() -> FileBuilder:
    """The integer form: int8 weights, int32 biases, an int16 cell state with a power of two as its scale."""
    b = FileBuilder()
    x = b.tensor("x", (1, 5, 3), scale=0.1, zero_point=7)
    inside = [b.tensor(f"w{i}", (4, 3), scale=0.02, data=np.ones((4, 3))) for i in range(4)]
    back = [b.tensor(f"r{i}", (4, 4), scale=0.03, data=np.ones((4, 4))) for i in range(4)]
    biases = [b.tensor(f"b{i}", (4,), "INT32", PRODUCT, data=np.zeros(4)) for i in range(4)]
    state = b.tensor("state", (1, 4), scale=0.01, zero_point=2)
    cell = b.tensor("cell", (1, 4), "INT16", 2.0**-12)
    for name in ("state", "cell"):
        b.named(name).isVariable = True
    y = b.tensor("y", (1, 5, 4), scale=0.01, zero_point=2)
    operands = [x, *inside, *back, -1, -1, -1, *biases, -1, -1, state, cell, -1, -1, -1, -1]
    b.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", operands, [y], fusedActivationFunction=4)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b


def scaled(name: str, scale: float) -> Callable[[FileBuilder], None]:
    def edit(b: FileBuilder) -> None:
        b.named(name).quantization.scale = [scale]

    return edit


@pytest.mark.parametrize(
    ("edit", "code", "tensor"),
    [
        (scaled("b2", PRODUCT), None, None),
        (scaled("b2", 0.5), "bias-scale", "b2"),
        (scaled("cell", 0.001), "cell-scale", "cell"),
        (scaled("state", 0.02), "unequal-scales", "state"),
        (lambda b: setattr(b.named("w1").quantization, "zeroPoint", [1]), "weight-zero-point", "w1"),
        (lambda b: setattr(b.named("cell"), "type", 2), "dtype", "cell"),
    ],
)
def test_lstm(edit: Callable[[FileBuilder], None], code: str | None, tensor: str | None, tmp_path: Path) -> None:
    b = lstm()
    edit(b)
    findings = check(b.write(tmp_path / "m.tflite"), "edgetpu").findings
    assert [(f.code, f.tensor_name) for f in findings if f.severity == "error"] == [(code, tensor)] * (code is not None)

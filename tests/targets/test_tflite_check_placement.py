"""Where operators run, why not on the device, and how a report says so."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from targets.tflite.check import TARGETS
from targets.tflite.check.conditions import TESTS
from targets.tflite.check.rules import device_rules, int8_rules
from targets.tflite.schema import schema
from tests.targets.tflite_faults import (
    CONCAT,
    CONV,
    DENSE,
    DEPTHWISE,
    MAX,
    SOFTMAX,
    TANH,
    Edit,
    between,
    checked,
    float_island,
    per_axis,
    two_rows,
)
from tests.targets.tflite_files import FileBuilder, int8_network

# -- where operators run ------------------------------------------------------------------------------------


def test_partitions_of_nnapi(tmp_path: Path) -> None:
    """EXP has no integer form there: the graph falls in three, and both later ones count."""
    b = int8_network()
    between(b, TANH, ("EXP", "INT8", 0.3, -1))
    report = checked(b, tmp_path)
    assert [(p.on_device, p.operators, p.broken_by) for p in report.partitions] == [
        (True, (0, 1, 2, 3, 4, 5), 6),
        (False, (6,), 7),
        (True, (7, 8, 9, 10), None),
    ]
    placement = report.placements[6]
    assert (placement.cause, placement.reason) == ("element-type", "it has int8 values, and is taken for float32")
    assert placement.rewrite.startswith("instead: DEQUANTIZE -> float op -> QUANTIZE, or GATHER from a 256-entry")
    assert report.on_device == 10 and report.exit_code == 0
    assert "broken by operator 6 EXP" in report.text()


def test_one_partition_of_the_edge_tpu(tmp_path: Path) -> None:
    """What comes behind the break fits, and stays on the CPU."""
    b = int8_network()
    between(b, TANH, ("HARD_SWISH", "INT8", 0.3, -1))
    report = checked(b, tmp_path, "edgetpu")
    assert [(p.on_device, p.fits, p.operators) for p in report.partitions] == [
        (True, True, (0, 1, 2, 3, 4, 5)),
        (False, False, (6,)),
        (False, True, (7, 8, 9, 10)),
    ]
    assert [(f.code, f.operator) for f in report.findings] == [("op-unsupported", 6), ("after-break", 7)]
    assert "ReLU6" in report.placements[6].rewrite
    assert report.on_device == 6


def test_parallel_branches_share_a_partition(tmp_path: Path) -> None:
    """The operator in the CPU stands between others in the file, and does not come between them in the graph."""
    b = int8_network()
    side = b.tensor("side", (1, 8, 8, 4), scale=0.3, zero_point=-1)
    b.operator("EXP", [b.number("x")], [side], 2, place=DEPTHWISE)
    b.graph.outputs = [*b.graph.outputs, side]
    report = checked(b, tmp_path)
    assert [(p.on_device, len(p.operators)) for p in report.partitions] == [(True, 10), (False, 1)]


@pytest.mark.parametrize(
    ("target", "edit", "place", "says"),
    [
        ("nnapi", per_axis("dense/weights", 10, 0, 0.015), DENSE, "weights have to be quantized per tensor"),
        ("nnapi", lambda b: setattr(b.graph.operators[CONCAT].builtinOptions, "fusedActivationFunction", 1), CONCAT,
         "a fused activation is not taken"),
        ("nnapi", lambda b: setattr(b.graph.operators[CONV], "inputs", b.graph.operators[CONV].inputs[:2]), CONV,
         "three operands are needed, the bias among them"),
        ("edgetpu", lambda b: setattr(b.graph.operators[MAX].builtinOptions, "fusedActivationFunction", 1), MAX,
         "a fused activation is not mapped"),
        ("edgetpu", lambda b: setattr(b.graph.operators[CONV].builtinOptions, "dilationWFactor", 2), CONV,
         "dilation has to be the same along both axes"),
        ("edgetpu", two_rows, SOFTMAX, "the operand has to be one-dimensional"),
        ("edgetpu", lambda b: setattr(b.named("x"), "shape", [2, 8, 8, 4]), CONV,
         "of the shape [2, 8, 8, 4] only the 3 innermost axes may be longer than 1"),
    ],
)  # fmt: skip
def test_conditions(target: str, edit: Edit, place: int, says: str, tmp_path: Path) -> None:
    b = int8_network()
    edit(b)
    assert checked(b, tmp_path, target).placements[place].reason == says


@pytest.mark.parametrize("target", TARGETS)
def test_every_condition_has_its_test_and_every_rule_its_source(target: str) -> None:
    """The data files name tests, rewrites and sources that exist; each rule says how sure it is."""
    rules = device_rules(target)
    known = {"documented", "inferred", "measured-by-third-party"}
    for code, rule in rules["operators"].items():
        assert hasattr(schema().BuiltinOperator, code)
        assert rule["source"] in rules["sources"] and rule["confidence"] in known
        assert rule.get("rewrite") is None or rule["rewrite"] in rules["rewrites"]
        for condition in rule.get("conditions", ()):
            assert condition["test"] in TESTS and condition.get("rewrite", "") in {"", *rules["rewrites"]}
            operands = set(condition) - {"test", "says", "level", "rewrite"}
            assert operands <= set(inspect.signature(TESTS[condition["test"]]).parameters)
    for rewrite in rules["rewrites"].values():
        assert rewrite["source"] in rules["sources"] and rewrite["confidence"] in known
    for rule in int8_rules()["operators"].values():
        assert rule["source"] in int8_rules()["sources"] and rule["confidence"] in known


def test_a_condition_may_raise_the_level(tmp_path: Path) -> None:
    b = int8_network()
    b.graph.operators[DENSE].builtinOptions.keepNumDims = True
    report = checked(b, tmp_path)
    assert (report.placements[DENSE].level, report.level, report.findings) == (4, 4, ())


def test_parameters_beyond_the_chip(tmp_path: Path) -> None:
    b = int8_network()
    weights = b.named("dense/weights")
    b.named("dense").shape = b.named("softmax").shape = [1, 60_000]
    weights.shape = [60_000, 128]
    b.model.buffers[weights.buffer].data = np.zeros(60_000 * 128, np.uint8)
    codes = {f.code: f for f in checked(b, tmp_path, "edgetpu").findings}
    assert codes["parameter-cache"].severity == "note"
    assert codes["parameter-cache"].message.startswith("7.7 MB of parameters do not fit the 6.9 MB on the chip")


# -- float files, text and JSON -----------------------------------------------------------------------------


def float_network() -> FileBuilder:
    b = FileBuilder()
    x, y, z = (b.tensor(n, (1, 4, 4, 2), "FLOAT32") for n in "xyz")
    b.operator("RELU", [x], [y])
    b.operator("GELU", [y], [z])
    b.graph.inputs, b.graph.outputs = [x], [z]
    return b


def test_a_float_file_is_placed_only(tmp_path: Path) -> None:
    report = checked(float_network(), tmp_path)
    assert report.kind == "float" and report.exit_code == 0
    assert [(f.code, f.severity, f.operator) for f in report.findings] == [("op-unsupported", "warning", 1)]


@pytest.mark.parametrize(("target", "placed"), [("nnapi", 10), ("edgetpu", 5)])
def test_open_sizes(target: str, placed: int, tmp_path: Path) -> None:
    """NNAPI compiles for the sizes of the moment, the Edge TPU's compiler for those of the file alone."""
    b = int8_network()
    for name in ("x", "conv", "depthwise", "sum"):
        b.named(name).shapeSignature = [-1, 8, 8, 4]
    report = checked(b, tmp_path, target)
    assert report.on_device == placed
    assert [(f.code, f.tensor_name) for f in report.errors] == [("dynamic-shape", "x")]


def test_open_sizes_of_a_float_file(tmp_path: Path) -> None:
    b = float_network()
    b.named("x").shapeSignature = [-1, 4, 4, 2]
    report = checked(b, tmp_path)
    assert report.exit_code == 0 and report.placements[0].on_device
    assert "its shape [-1, 4, 4, 2] is open; operators are placed for [1, 4, 4, 2]" in report.text()


def test_strict_asks_float_files_for_the_contract(tmp_path: Path) -> None:
    report = checked(float_network(), tmp_path, strict=True)
    assert [(f.code, f.severity) for f in report.findings] == [("float-island", "error"), ("op-unsupported", "error")]
    assert report.exit_code == 3


@pytest.mark.parametrize("target", TARGETS)
def test_json_is_plain(target: str, tmp_path: Path) -> None:
    b = int8_network()
    float_island(b)
    report = checked(b, tmp_path, target)
    plain = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert plain["exit_code"] == 3 and plain["kind"] == "mixed"
    assert {f["code"] for f in plain["findings"]} >= {"float-island"}
    assert len(plain["placements"]) == plain["operators"] == 13


def test_findings_that_say_the_same_share_a_line(tmp_path: Path) -> None:
    b = FileBuilder()
    tensors = [b.tensor(f"t{i}", (1, 4), "FLOAT32") for i in range(41)]
    for i in range(40):
        b.operator("GELU", [tensors[i]], [tensors[i + 1]])
    b.graph.inputs, b.graph.outputs = [tensors[0]], [tensors[-1]]
    lines = checked(b, tmp_path).text().splitlines()
    assert sum("op-unsupported" in line for line in lines) == 1
    assert "operator 3 GELU and 36 more: it stays on the CPU" in lines[1]

"""Operators whose meaning or form changed between opsets, each in a model at its own opset: every road gives what ONNX
Runtime gives for the model as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from compiler.api import compile_model, load
from compiler.compare import compare_all
from compiler.errors import CompileError, LegalityError, OnnxError, VerificationError
from compiler.evaluate import evaluate
from compiler.oracle import open_session, run_session
from compiler.tensor import Array
from tests.legacy_cases import CASES, Case, f, s

ROADS: dict[str, dict[str, Any]] = {  # Any: options of targets
    "evaluate": {},
    "onnx": {},
    "ane": {"precision": "fp32"},
    "nnapi": {},
}
LIMIT_DB = 90.0


def reference(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    return run_session(open_session(model.SerializeToString()), feeds)


def results(model: onnx.ModelProto, feeds: dict[str, Array], road: str) -> dict[str, Array]:
    """What comes out at the end of a road."""
    if road == "evaluate":
        return evaluate(load(model), feeds)
    return compile_model(model, road, verify="off", **ROADS[road]).run(feeds)


def assert_same(expected: dict[str, Array], got: dict[str, Array]) -> None:
    assert {k: (v.dtype, v.shape) for k, v in got.items()} == {k: (v.dtype, v.shape) for k, v in expected.items()}
    assert min(c.psnr_db for c in compare_all(expected, got)) > LIMIT_DB


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_node_at_its_own_opset(case: Case) -> None:
    model = case.model(case.opset)
    expected = reference(model, case.feeds)
    for road in ROADS:
        if road in case.refused:
            with pytest.raises(LegalityError):
                results(model, case.feeds, road)
        else:
            assert_same(expected, results(model, case.feeds, road))


@pytest.mark.parametrize("case", [c for c in CASES if c.newer is not None], ids=str)
def test_the_case_can_tell_opsets_apart(case: Case) -> None:
    """The same node at another opset is invalid, or gives other numbers."""
    assert case.newer is not None
    expected = reference(case.model(case.opset), case.feeds)
    try:
        other = reference(case.model(case.newer), case.feeds)
    except (VerificationError, onnx.shape_inference.InferenceError):
        return
    assert min(c.psnr_db for c in compare_all(expected, other)) < LIMIT_DB


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_layers_with_the_batch_first(op: str, gates: int, road: str) -> None:
    """layout=1 of opset 14, which ONNX Runtime lacks: it judges the same layer with its operands transposed."""
    x, states = f(2, 3, 4), [f(2, 1, 5) for _ in range(2 if op == "LSTM" else 1)]
    weights = (f(1, 5 * gates, 4), f(1, 5 * gates, 5), f(1, 10 * gates), None)
    names = ["hidden_size", "layout"]
    first = Case(op, 14, (x, *weights, *states), dict(zip(names, (5, 1), strict=True)), results=1 + len(states))
    moved = [np.ascontiguousarray(a.swapaxes(0, 1)) for a in (x, *states)]
    last = first._replace(inputs=(moved[0], *weights, *moved[1:]), attributes={"hidden_size": 5}, results=first.results)
    sequence, *ends = reference(last.model(14), last.feeds).values()
    expected = [sequence.transpose(2, 0, 1, 3), *(a.swapaxes(0, 1) for a in ends)]
    got = results(first.model(14), first.feeds, road)
    assert_same({f"y{i}": a for i, a in enumerate(expected)}, got)


@pytest.mark.parametrize("opset", [12, 13, 22])
def test_dropout_in_training_is_refused(opset: int) -> None:
    """It draws at random. Before opset 12 there is no such operand."""
    case = Case("Dropout", opset, (f(2, 3), s(0.5), s(True, np.bool_)), {})
    with pytest.raises(CompileError, match=r"[Dd]ropout"):
        load(case.model(opset))


def test_a_scan_over_batches_is_refused() -> None:
    """Scan of opset 8 has a batch axis that no later one has."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [value("a", 1, [2]), value("b", 1, [2])],
        [value("c", 1, [2]), value("d", 1, [2])],
    )
    node = helper.make_node("Scan", ["", "start", "x"], ["end", "all"], body=body, num_scan_inputs=1)
    ports = [value("start", 1, [1, 2]), value("x", 1, [1, 3, 2])]
    graph = helper.make_graph([node], "g", ports, [value("end", 1, [1, 2]), value("all", 1, [1, 3, 2])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=8)
    with pytest.raises(OnnxError, match="Scan before opset 9"):
        load(model)

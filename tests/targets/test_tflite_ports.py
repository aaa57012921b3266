"""Inputs and outputs of all kinds: inputs and constants as outputs, duplicates, scalars, inputs that nobody reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from compiler.api import compile_model
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ops import Add, Clip, Identity, Relu
from compiler.tensor import F32, I64, TensorType
from tests.command import build, info, node
from tests.targets.tflite_harness import emitted

I64_MAX = np.iinfo(np.int64).max


def test_each_output_is_a_tensor_of_its_own(tmp_path: Path) -> None:
    """LiteRT refuses or confuses outputs that are inputs, constants or one another."""
    graph = Graph()
    x = graph.add_input(TensorType(F32, (1, 3)), "x")
    (y,) = graph.add(Relu(), x)
    (same,) = graph.add(Identity(), y)
    c = graph.const(np.array([I64_MAX, -1], np.int64), "c")
    graph.set_outputs([x, y, same, y, c, c], ["in", "y", "same", "again", "c", "c_again"])
    feeds = {"x": np.array([[-1.0, 0.5, 2.0]], np.float32)}
    artifact = emitted(graph, tmp_path / "m.tflite")
    results = artifact.run(feeds)
    for name, expected in evaluate(graph, feeds).items():
        assert results[name].dtype == expected.dtype and np.array_equal(results[name], expected), name
    tensors = [id(t) for _, t in (*artifact._model.inputs, *artifact._model.outputs)]
    assert len(set(tensors)) == len(tensors) == 7


@pytest.mark.parametrize("io_layout", ["nhwc", "keep", "nchw"])
def test_inputs_that_nobody_reads(io_layout: str) -> None:
    ports = [info("x", [1, 3, 4, 5]), info("unread", [2]), info("self", [], TensorProto.INT64)]
    model = build([node("GlobalMaxPool", "x", "y")], ports, [info("y"), info("x")])
    given = {"x": np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5), "unread": np.zeros(2, np.float32)}
    compiled = compile_model(model, "nnapi", io_layout=io_layout)
    results = compiled.run({**given, "self": np.array(7)})
    assert compiled.report.passed
    assert np.array_equal(results["y"].ravel(), [19, 39, 59]) and np.array_equal(results["x"], given["x"])


def test_scalars_of_64_bits(tmp_path: Path) -> None:
    graph = Graph()
    a, b = (graph.add_input(TensorType(I64, ()), name) for name in "ab")
    graph.set_outputs(graph.add(Add(), a, b), ["sum"])
    result = emitted(graph, tmp_path / "m.tflite").run({"a": np.array(I64_MAX - 1), "b": np.array(1)})["sum"]
    assert result.shape == () and result.dtype == np.int64 and int(result) == I64_MAX


def test_a_second_activation_does_not_replace_the_first(tmp_path: Path) -> None:
    """Both could be fused into the sum, which has room for one."""
    graph = Graph()
    x = graph.add_input(TensorType(F32, (4,)), "x")
    (rectified,) = graph.add(Relu(), *graph.add(Add(), x, graph.const(np.array(1, np.float32))))
    graph.set_outputs(graph.add(Clip(low=-1.0, high=1.0), rectified), ["y"])
    feeds = {"x": np.array([-3.0, -1.5, -0.5, 3.0], np.float32)}
    artifact = emitted(graph, tmp_path / "m.tflite")
    assert artifact.run(feeds)["y"].tolist() == [0.0, 0.0, 0.5, 1.0]
    assert artifact.operators["ADD"] == 1 and sum(artifact.operators.values()) == 2
